"""What a connection keeps and what it costs: flat memory, one write per turn, nothing made for a full transport."""

import gc
import tracemalloc

import pytest

from alphorn.core.asgi import Receive, Scope, Send
from alphorn.core.build import COMPILED
from alphorn.protocols import http2_fast_streams
from alphorn.protocols.http2_machine import Http2Machine
from support.frames import GET, POST, PREFACE, Data, Frame, Headers, RstStream, Settings, WindowUpdate
from support.http2_memory import MemoryConnection, memory_connection
from support.waiting import turns

HIGH_MARK = 64 * 1024
BURST = 64 * 1024


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer at once, without looking at the request."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def open_wide(connection: MemoryConnection) -> None:
    """Begin, with windows that no response uses up."""
    connection.sends(PREFACE, Settings({4: 2**31 - 1}), WindowUpdate(0, 2**30))
    await connection.reads()


@pytest.mark.skipif(COMPILED, reason="the number that is made smaller is a constant in machine code")
async def test_a_connection_that_lives_long_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    # So that it is full, and settled, soon.
    monkeypatch.setattr(Http2Machine, "MAX_CLOSED_STREAMS", 64)
    monkeypatch.setattr(http2_fast_streams, "MAX_CLOSED_STREAMS", 64)
    async with memory_connection(hello, max_drain=0, max_resets=1000) as connection:
        await open_wide(connection)
        newest = -1

        async def live(requests: int) -> None:
            nonlocal newest
            for _ in range(requests):
                newest += 2
                connection.sends(
                    Headers(newest, GET, end_stream=True) if newest % 4 == 1 else Headers(newest, POST),
                    *([RstStream(newest, 8)] if newest % 8 == 7 else []),
                )
                await connection.reads()
                connection.peer.seen.clear()

        tracemalloc.start()
        try:
            await live(300)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            await live(500)
            gc.collect()
            after = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert after - before < 16 * 1024


async def test_settings_that_nobody_knows_are_not_kept() -> None:
    async with memory_connection(hello) as connection:
        await open_wide(connection)
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            for start in range(0x100, 0x4000, 0x400):
                connection.sends(Settings(dict.fromkeys(range(start, start + 0x400), 1)))
                await connection.reads()
            connection.peer.seen.clear()
            gc.collect()
            after = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert after - before < 64 * 1024  # of 96 KiB that came, and a deque for each in h2


async def test_the_table_for_our_heads_stays_small_whatever_the_client_offers() -> None:
    async with memory_connection(hello, max_control_frames=10_000) as connection:
        await open_wide(connection)
        for size in [2**32 - 1, 0, 100, 2**31, 5, 4096] * 50:
            connection.sends(Settings({1: size}))
        machine = connection.server._machine
        encoder = machine.encoder if isinstance(machine, Http2Machine) else machine._encoder  # type: ignore[attr-defined]
        assert encoder.header_table_size == 4096
        assert len(encoder.table_size_changes) <= 2
        connection.peer._decoder.max_allowed_table_size = 4096
        connection.sends(Headers(1, GET, end_stream=True))
        frames = await connection.reads()
        assert Data(1, b"hello", end_stream=True) in frames


async def test_a_frame_that_is_too_large_is_refused_before_it_has_come() -> None:
    async with memory_connection(hello) as connection:
        await open_wide(connection)
        connection.sends((2**24 - 1).to_bytes(3) + bytes(6))
        assert connection.transport.ended


async def test_what_is_said_to_one_read_leaves_in_one_write() -> None:
    async with memory_connection(hello) as connection:
        await open_wide(connection)
        before = connection.transport.writes
        connection.sends(*[Headers(number, GET, end_stream=True) for number in range(1, 21, 2)])
        await turns()
        assert connection.transport.writes == before + 1


async def test_no_frames_are_made_while_the_transport_is_full() -> None:
    size = 2_000_000
    body = bytes(size)

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async with memory_connection(app, write_high_mark=HIGH_MARK) as connection:
        await open_wide(connection)
        requests: list[Frame] = [Headers(1, GET, end_stream=True), Headers(3, GET, end_stream=True)]
        connection.sends(*requests)
        await turns()
        assert connection.transport.pauses == 1
        assert len(connection.transport.written) < HIGH_MARK + BURST + 16384 + 1000
        # What waits is the application's own bytes, not a copy.
        waiting = [stream._pending for stream in connection.server._streams.values()]
        assert all(pending is not None and pending[0].obj is body for pending in waiting)

        frames = await connection.reads()
        sent = {1: b"", 3: b""}
        for frame in frames:
            if isinstance(frame, Data):
                sent[frame.stream_id] += frame.data
        assert sent == {1: body, 3: body}
        turns_taken = [frame.stream_id for frame in frames if isinstance(frame, Data)]
        assert turns_taken[:8] == [1, 3] * 4


async def test_answers_without_a_turn_are_no_more_at_a_time_than_a_burst() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(16_000)})

    async with memory_connection(app, write_high_mark=HIGH_MARK) as connection:
        await open_wide(connection)
        connection.sends(*[Headers(number, GET, end_stream=True) for number in range(1, 101, 2)])
        await turns()
        assert len(connection.transport.written) < HIGH_MARK + BURST + 16384 + 50 * 100
        frames = await connection.reads()
        assert sum(frame.end_stream for frame in frames if isinstance(frame, Data)) == 50


async def test_a_small_answer_does_not_overtake_one_that_is_more_urgent() -> None:
    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(40_000 if scope["path"] == "/large" else 10)})

    async with memory_connection(app) as connection:
        await open_wide(connection)
        large = [*GET[:3], (b":path", b"/large"), (b"priority", b"u=1")]
        connection.sends(Headers(1, large, end_stream=True), Headers(3, GET, end_stream=True))
        data = [frame.stream_id for frame in await connection.reads() if isinstance(frame, Data)]
        assert data == [1, 1, 1, 3]


async def test_control_frames_are_answered_while_the_transport_is_full() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(1_000_000)})

    async with memory_connection(app) as connection:
        await open_wide(connection)
        connection.sends(Headers(1, GET, end_stream=True))
        await turns()
        held = len(connection.transport.written)
        connection.sends(Settings({3: 5}))
        await turns()
        assert len(connection.transport.written) == held + 9
