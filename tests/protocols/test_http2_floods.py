"""Floods: what a client may do often before it is sent away, and that a busy client never gets there."""

import asyncio
import gc
import logging
import tracemalloc
from collections.abc import Callable

import pytest
from h2.errors import ErrorCodes

from alphorn.core.asgi import Receive, Scope, Send
from support.exchange import Fields
from support.frames import (
    ANY,
    GET,
    POST,
    PREFACE,
    Continuation,
    Data,
    Frame,
    FrameType,
    Goaway,
    Headers,
    HeadersPart,
    Ping,
    Raw,
    RstStream,
    Settings,
    WindowUpdate,
    priority_update,
)
from support.http2_memory import MemoryConnection, memory_connection
from support.waiting import turns

CALM = ErrorCodes.ENHANCE_YOUR_CALM
MANY = 5000
"""More of anything than the budgets in these tests allow."""


async def hello(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer at once."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def answer_the_whole(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer when all of the content has come, or never."""
    while (message := await receive())["type"] == "http.request":
        if not message["more_body"]:
            await hello(scope, receive, send)
            return


class Count:
    """An application that counts how often it was started, and waits until it may end.

    Attributes:
        started: How often.
        told: How many calls have heard that their client has gone.
        may_end: Set to let them end.
    """

    def __init__(self) -> None:
        self.started = 0
        self.told = 0
        self.may_end = asyncio.Event()

    async def __call__(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        self.started += 1
        while (await receive())["type"] != "http.disconnect":
            pass
        self.told += 1
        await self.may_end.wait()


async def begin(connection: MemoryConnection, settings: dict[int, int] | None = None) -> None:
    """Exchange prefaces."""
    connection.sends(PREFACE, Settings(settings or {}), Settings(ack=True))
    await connection.reads()


def those(frames: list[Frame], kind: type[FrameType]) -> list[FrameType]:
    """Those of a kind."""
    return [frame for frame in frames if isinstance(frame, kind)]


async def sent_away(connection: MemoryConnection, limit: str) -> None:
    """Prove that the connection has ended for one limit: one GOAWAY, counted once."""
    goaways = those(await connection.reads(), Goaway)
    assert [goaway.code for goaway in goaways] == [CALM]
    assert connection.transport.ended
    assert connection.worker.limits.hits[limit] == 1


async def still_there(connection: MemoryConnection) -> None:
    """Prove that the connection goes on."""
    connection.sends(Ping(b"goes on?"))
    frames = await connection.reads()
    assert Ping(b"goes on?", ack=True) in frames
    assert not those(frames, Goaway)


# ---------------------------------------------------------------------- resets


async def test_rapid_reset_ends_the_connection_and_starts_nothing_more(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Count()
    app.may_end.set()
    async with memory_connection(app, max_resets=20, max_streams=100) as connection:
        await begin(connection)
        for number in range(1, 41, 2):
            connection.sends(Headers(number, GET, end_stream=True), RstStream(number, ErrorCodes.CANCEL))
        await still_there(connection)
        assert app.started == 0  # what is reset in the same read never runs

        attack: list[Frame] = [Headers(41, GET, end_stream=True)]
        for number in range(43, 2041, 2):
            attack += [Headers(number, GET, end_stream=True), RstStream(number, ErrorCodes.CANCEL)]
        connection.sends(*attack)
        await sent_away(connection, "max_resets")
        assert app.started == 0
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(lines) == 1
    assert "--max-resets" in lines[0].getMessage()


async def test_resets_come_back_with_time() -> None:
    async with memory_connection(answer_the_whole, max_resets=20) as connection:
        await begin(connection)
        for number in range(1, 401, 2):
            connection.sends(Headers(number, POST), RstStream(number, ErrorCodes.CANCEL))
            connection.clock.advance(0.5)
            connection.peer.seen.clear()
        await still_there(connection)


async def test_a_stream_that_was_answered_may_be_reset_as_often_as_one_likes() -> None:
    async with memory_connection(hello, max_resets=1, max_control_frames=10) as connection:
        await begin(connection)
        for number in range(1, MANY, 2):  # what a client does that has its answer and more to send
            connection.sends(Headers(number, POST))
            assert Data(number, b"hello", end_stream=True) in await connection.reads()
            connection.sends(RstStream(number, ErrorCodes.NO_ERROR))
            connection.peer.seen.clear()
        await still_there(connection)


MADE_YOU_RESET: dict[str, Callable[[int], list[Frame]]] = {
    "malformed-request": lambda number: [Headers(number, GET[1:], end_stream=True)],
    "malformed-trailers": lambda number: [
        Headers(number, POST),
        Headers(number, [(b"Upper", b"case")], end_stream=True),
    ],
    "trailers-without-end": lambda number: [Headers(number, POST), Headers(number, [(b"x", b"y")])],
    "wrong-content-length": lambda number: [
        Headers(number, [*POST, (b"content-length", b"5")]),
        Data(number, b"x", end_stream=True),
    ],
    "window-overflow": lambda number: [Headers(number, POST), WindowUpdate(number, 2**31 - 1)],
    "data-after-end": lambda number: [Headers(number, GET, end_stream=True), Data(number, b"x")],
    "headers-after-end": lambda number: [
        Headers(number, GET, end_stream=True),
        Headers(number, [(b"x", b"y")], end_stream=True),
    ],
    "priority-on-itself": lambda number: [
        Headers(number, POST),
        Raw(0x2, 0, number, number.to_bytes(4) + b"\0"),
    ],
}


@pytest.mark.parametrize("provoke", MADE_YOU_RESET.values(), ids=MADE_YOU_RESET.keys())
async def test_resets_that_the_client_provokes_count_like_its_own(
    provoke: Callable[[int], list[Frame]],
) -> None:
    app = Count()
    app.may_end.set()
    async with memory_connection(app, max_resets=20) as connection:
        await begin(connection)
        for number in range(1, 41, 2):
            connection.sends(*provoke(number))
            await turns()
        await still_there(connection)
        assert len(those(connection.peer.seen, RstStream)) == 20
        connection.sends(*provoke(41))
        await sent_away(connection, "max_resets")


async def test_requests_above_the_limit_of_streams_are_refused_and_count() -> None:
    async with memory_connection(answer_the_whole, max_streams=3, max_resets=20) as connection:
        await begin(connection)
        connection.sends(*[Headers(number, POST) for number in range(1, 47, 2)])
        frames = await connection.reads()
        refused = [frame.stream_id for frame in those(frames, RstStream)]
        assert refused == list(range(7, 47, 2))
        assert connection.worker.limits.hits["max_streams"] == 20
        connection.sends(Headers(47, POST))
        await sent_away(connection, "max_resets")


async def test_refusals_of_our_own_doing_do_not_count() -> None:
    app = Count()
    app.may_end.set()
    settings = {"max_in_flight": 1, "max_queued": 0, "max_resets": 1}
    async with memory_connection(app, **settings) as connection:
        await begin(connection)
        connection.sends(*[Headers(number, POST) for number in range(1, 101, 2)])
        frames = await connection.reads()
        assert len(those(frames, RstStream)) == 49
        connection.server.shutdown()
        connection.clock.advance(5)
        connection.sends(*[Headers(number, POST) for number in range(101, 201, 2)])
        frames = await connection.reads()
        assert len(those(frames, RstStream)) == 49 + 50
        assert [goaway.code for goaway in those(frames, Goaway)] == [ErrorCodes.NO_ERROR]


# ---------------------------------------------------------------------- slots


async def test_an_application_whose_stream_was_reset_keeps_its_slot_until_it_has_ended() -> None:
    app = Count()
    async with memory_connection(app, max_streams=4) as connection:
        await begin(connection)
        for number in (1, 3, 5):
            connection.sends(Headers(number, POST))
            await turns()
            connection.sends(RstStream(number, ErrorCodes.CANCEL))
        await turns()
        assert app.told == 3
        connection.sends(Headers(7, POST), Headers(9, POST))
        assert those(await connection.reads(), RstStream) == [RstStream(9, ErrorCodes.REFUSED_STREAM)]
        assert app.started == 4

        app.may_end.set()
        await turns()
        connection.sends(Headers(11, POST), Headers(13, POST), Headers(15, POST), Headers(17, POST))
        assert those(await connection.reads(), RstStream)[1:] == [RstStream(17, ErrorCodes.REFUSED_STREAM)]
        assert app.started == 7


async def test_what_an_application_does_after_its_answer_takes_no_slot() -> None:
    may_end = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await hello(scope, receive, send)
        await may_end.wait()

    async with memory_connection(app, max_streams=2) as connection:
        await begin(connection)
        for number in range(1, 101, 2):
            connection.sends(Headers(number, GET, end_stream=True))
            await connection.reads()
        assert not those(connection.peer.seen, RstStream)
        may_end.set()
        await turns()


async def test_an_upload_that_goes_on_after_its_answer_takes_a_slot() -> None:
    async with memory_connection(hello, max_streams=2) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST), Headers(3, POST))
        await connection.reads()
        connection.sends(Headers(5, POST), Data(1, b"x", end_stream=True), Headers(7, POST))
        frames = await connection.reads()
        assert those(frames, RstStream) == [RstStream(5, ErrorCodes.REFUSED_STREAM)]
        assert Data(7, b"hello", end_stream=True) in frames


# ---------------------------------------------------------------------- control frames

CONTROL: dict[str, Frame] = {
    "ping": Ping(),
    "ping-ack": Ping(ack=True),
    "settings": Settings({3: 100}),
    "settings-ack": Settings(ack=True),
    "priority": Raw(0x2, 0, 99, b"\0\0\0\0\x10"),
    "priority-update": priority_update(1, b"u=1"),
    "unknown": Raw(0xFE, 0, 0, b"unknown"),
    "altsvc": Raw(0xA, 0, 1, b"\0\0h2=:1"),
    "goaway": Goaway(0, 0),
    "empty-data": Data(1),
    "padding": Data(1, padding=10),
    "window-dribble": WindowUpdate(0, 1),
    "window-dribble-stream": WindowUpdate(1, 1),
    "late-data": Data(3, b"x"),
    "late-trailers": HeadersPart(3, b"", end_stream=True, end_headers=True),
    "late-reset": RstStream(3, 8),
    "late-window": WindowUpdate(3, 1000),
    "after-its-own-reset": Data(5, b"x"),
}


@pytest.mark.parametrize("frame", CONTROL.values(), ids=CONTROL.keys())
async def test_a_flood_of_frames_without_use_ends_the_connection(frame: Frame) -> None:
    settings = {"max_control_frames": 500, "max_drain": 0, "max_head_bytes": 1024}
    async with memory_connection(answer_the_whole, **settings) as connection:
        await begin(connection)
        connection.sends(
            Headers(1, POST),
            Headers(3, [*POST, (b"x", b"y" * 1000)]),  # 431, then a reset of ours
            Headers(5, POST),
            RstStream(5, 8),
        )
        await connection.reads()
        for _ in range(30):
            connection.sends(*[frame] * 10 if frame != CONTROL["settings"] else [frame])
        await still_there(connection)
        unanswered = len(connection.peer.seen)
        connection.sends(*[frame] * MANY)
        await sent_away(connection, "max_control_frames")
        assert len(connection.peer.seen) - unanswered <= 510


async def test_settings_are_dearer_than_other_frames() -> None:
    async with memory_connection(hello, max_control_frames=500) as connection:
        await begin(connection)
        connection.sends(*[Settings()] * 48)  # and the one in the beginning
        await still_there(connection)
        connection.sends(*[Settings()] * 2)
        await sent_away(connection, "max_control_frames")


async def test_empty_fragments_of_field_blocks_are_counted() -> None:
    async with memory_connection(hello, max_control_frames=100) as connection:
        await begin(connection)
        for number in range(1, 9, 2):
            block = connection.peer.encoder.encode(GET)
            connection.sends(
                HeadersPart(number, b"", end_stream=True),
                *[Continuation(number, b"")] * 50,
                Continuation(number, block, end_headers=True),
            )
        await sent_away(connection, "max_control_frames")


async def test_control_frames_come_back_with_time() -> None:
    async with memory_connection(answer_the_whole, max_control_frames=100, body_min_rate=0) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST))
        for _ in range(100):
            connection.sends(*[Ping()] * 10)
            connection.clock.advance(1)
            connection.peer.seen.clear()
        await still_there(connection)


async def test_a_window_that_is_opened_byte_by_byte_is_no_use() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(100_000)})

    async with memory_connection(app, max_control_frames=500) as connection:
        await begin(connection, {4: 0})
        connection.sends(Headers(1, GET, end_stream=True))
        for _ in range(450):
            connection.sends(WindowUpdate(1, 1))
        await still_there(connection)
        for _ in range(100):
            connection.sends(WindowUpdate(1, 1))
        await sent_away(connection, "max_control_frames")


async def test_a_client_that_acknowledges_every_small_message_goes_on() -> None:
    """gRPC: both windows are given back message by message, though they are exhausted; PINGs measure the path."""
    length = 400_000

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(length // 40):
            await send({"type": "http.response.body", "body": b"message " * 5, "more_body": True})
            await turns(1)
        await send({"type": "http.response.body"})

    async with memory_connection(app, max_control_frames=50) as connection:
        await begin(connection)
        connection.sends(Headers(1, GET, end_stream=True))
        got = 0
        while got < length:
            connection.peer.seen.clear()
            batch = those(await connection.reads(), Data)
            assert batch, "the server has stopped"
            got += sum(len(frame.data) for frame in batch)
            got_bytes = [len(frame.data) for frame in batch if frame.data]
            acknowledgments = [[WindowUpdate(0, size), WindowUpdate(1, size)] for size in got_bytes]
            connection.sends(Ping(), *[update for pair in acknowledgments for update in pair])
        assert not those(await connection.reads(), Goaway)


async def test_a_client_that_opens_the_window_of_each_stream_goes_on() -> None:
    """As curl and Firefox do with each request; and gRPC, with pings."""
    async with memory_connection(hello, max_control_frames=10) as connection:
        await begin(connection)
        for number in range(1, 2001, 2):
            connection.sends(
                Headers(number, GET, end_stream=True), WindowUpdate(number, 2**24), Ping(), WindowUpdate(0, 5)
            )
            await connection.reads()
            connection.peer.seen.clear()
        await still_there(connection)


async def test_the_answers_to_a_client_that_reads_none_are_bounded() -> None:
    async with memory_connection(hello, max_control_frames=100_000, write_high_mark=64 * 1024) as connection:
        await begin(connection)
        newest = 1
        while connection.transport.reading:
            connection.sends(*[Ping()] * 100, Headers(newest, GET, end_stream=True))
            newest += 2
            assert len(connection.transport.written) < 512 * 1024
        await connection.reads()
        assert connection.transport.reading
        await still_there(connection)


# ---------------------------------------------------------------------- field blocks

FRAGMENT = bytes(16_000)


async def test_a_field_block_is_bounded_in_bytes_while_it_has_not_ended() -> None:
    async with memory_connection(hello, max_head_bytes=16_384) as connection:
        await begin(connection)
        connection.sends(HeadersPart(1, FRAGMENT))
        for _ in range(3):
            connection.sends(Continuation(1, FRAGMENT))
        assert not connection.transport.ended
        connection.sends(Continuation(1, FRAGMENT))
        await sent_away(connection, "max_head_bytes")


async def test_a_field_block_is_bounded_in_time_even_while_others_are_served() -> None:
    app = Count()
    app.may_end.set()
    async with memory_connection(app, head_timeout=10.0) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST), HeadersPart(3, b"\x82"))
        connection.clock.advance(8)
        connection.sends(Continuation(3, b"\x86"))
        assert not connection.transport.ended
        connection.clock.advance(4)
        await sent_away(connection, "head_timeout")
        assert app.told == 1


async def test_a_frame_of_a_field_block_that_does_not_come_to_its_end_is_bounded_in_time_too() -> None:
    async with memory_connection(answer_the_whole, head_timeout=10.0) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST))
        connection.sends(connection.peer.serialize(Headers(3, POST))[:12])
        connection.clock.advance(12)
        await sent_away(connection, "head_timeout")


async def test_field_blocks_in_pieces_that_come_in_time_may_follow_each_other_for_ever() -> None:
    async with memory_connection(hello, head_timeout=10.0) as connection:
        await begin(connection)
        for number in range(1, 41, 2):
            block = connection.peer.encoder.encode(GET)
            connection.sends(HeadersPart(number, block[:3], end_stream=True))
            connection.clock.advance(4)
            connection.sends(Continuation(number, block[3:], end_headers=True))
            assert Data(number, b"hello", end_stream=True) in await connection.reads()


async def test_an_hpack_bomb_ends_the_connection_before_it_unfolds() -> None:
    async with memory_connection(hello, max_head_bytes=16_384) as connection:
        await begin(connection)
        block = connection.peer.encoder.encode([*GET, (b"x", b"v" * 4000)]) + b"\xbe" * 16_000
        connection.sends(HeadersPart(1, block[:16_000]), Continuation(1, block[16_000:], end_headers=True))
        await sent_away(connection, "max_head_bytes")


@pytest.mark.parametrize(("updates", "fine"), [(1, True), (2, True), (3, False), (10_000, False)])
@pytest.mark.parametrize("update", [b"\x20", b"\x3f\x81\x1f"], ids=["to-0", "to-4000"])
async def test_a_field_block_may_change_the_table_size_twice(updates: int, update: bytes, fine: bool) -> None:
    async with memory_connection(hello) as connection:
        await begin(connection)
        plain = bytes([0x82, 0x86, 0x84, 0x01, 0x09]) + b"localhost"  # nothing of it goes into the table
        block = update * updates + plain
        parts = [block[at : at + 16_000] for at in range(0, len(block), 16_000)]
        connection.sends(
            HeadersPart(1, parts[0], end_stream=True, end_headers=len(parts) == 1),
            *[Continuation(1, part, end_headers=part is parts[-1]) for part in parts[1:]],
        )
        frames = await connection.reads()
        if fine:
            assert Data(1, b"hello", end_stream=True) in frames
        else:
            assert Goaway(ANY, ErrorCodes.COMPRESSION_ERROR) in frames


async def test_fields_that_push_each_other_out_of_the_table_leave_nothing_behind() -> None:
    async with memory_connection(hello) as connection:
        await begin(connection)

        async def thrash(numbers: range) -> int:
            for number in numbers:
                fields: Fields = [(b"x-%d-%d" % (number, i), b"v" * 100) for i in range(100)]
                connection.sends(Headers(number, [*GET, *fields], end_stream=True))
                assert Data(number, b"hello", end_stream=True) in await connection.reads()
                connection.peer.seen.clear()
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        tracemalloc.start()
        try:
            before = await thrash(range(1, 161, 2))
            assert await thrash(range(161, 241, 2)) - before < 32 * 1024  # of 400 KiB that were sent
        finally:
            tracemalloc.stop()


async def test_a_client_that_uses_its_last_stream_first_has_no_more() -> None:
    async with memory_connection(hello) as connection:
        await begin(connection)
        last = 2**31 - 1
        connection.sends(Headers(last, GET, end_stream=True))
        assert Data(last, b"hello", end_stream=True) in await connection.reads()
        connection.sends(Headers(1, GET, end_stream=True))
        goaways = those(await connection.reads(), Goaway)
        assert [(goaway.last_stream_id, goaway.code) for goaway in goaways] == [
            (last, ErrorCodes.PROTOCOL_ERROR)
        ]
