"""Who lets an HTTP/2 server wait: uploads that crawl, windows that stay shut, answers that nobody reads."""

import asyncio
from typing import Any

import pytest
from h2.errors import ErrorCodes

from alphorn.core.asgi import Message, Receive, Scope, Send
from alphorn.protocols.http2_stalls import Laggards
from support.exchange import Fields
from support.frames import (
    GET,
    POST,
    PREFACE,
    Data,
    Frame,
    FrameType,
    Goaway,
    Headers,
    Ping,
    RstStream,
    Settings,
    WindowUpdate,
)
from support.http2_memory import MemoryConnection, memory_connection
from support.http2_requests import EXTENDED
from support.waiting import turns

CALM = ErrorCodes.ENHANCE_YOUR_CALM
FRAME = bytes(16_384)


class Reader:
    """An application that receives, and answers when it is told to.

    Attributes:
        received: What it got.
        errors: What `send` raised.
    """

    def __init__(self, *, begin_first: bool = False) -> None:
        self.received: list[Message] = []
        self.errors: list[OSError] = []
        self._begin_first = begin_first

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        if self._begin_first:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while True:
            self.received.append(await receive())
            if not self.received[-1].get("more_body"):
                break
        try:
            if not self._begin_first:
                await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})
        except OSError as error:
            self.errors.append(error)

    @property
    def told(self) -> bool:
        """Whether it has heard that its client has gone."""
        return {"type": "http.disconnect"} in self.received


class Pour:
    """An application that sends much, and says how it ended.

    Attributes:
        ended: How many calls could not send all of it.
    """

    def __init__(self, size: int = 1_000_000) -> None:
        self.ended = 0
        self._size = size

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(0, self._size, 10_000):
                await send({"type": "http.response.body", "body": bytes(10_000), "more_body": True})
            await send({"type": "http.response.body"})
        except OSError:
            self.ended += 1


async def too_large(_scope: Scope, _receive: Receive, send: Send) -> None:
    """Answer without a look at the content."""
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"too large"})


async def never_read(_scope: Scope, _receive: Receive, _send: Send) -> None:
    """Neither read nor answer, until it is cancelled or the test is over."""
    await asyncio.Event().wait()


async def begin(connection: MemoryConnection, settings: dict[int, int] | None = None) -> None:
    """Exchange prefaces."""
    connection.sends(PREFACE, Settings(settings or {}), Settings(ack=True))
    await connection.reads()


def those(frames: list[Frame], kind: type[FrameType]) -> list[FrameType]:
    """Those of a kind."""
    return [frame for frame in frames if isinstance(frame, kind)]


def status(frames: list[Frame], stream_id: int) -> list[bytes]:
    """The statuses of the answers on a stream."""
    heads = [frame for frame in those(frames, Headers) if frame.stream_id == stream_id]
    return [value for head in heads for name, value in head.fields if name == b":status"]


# ---------------------------------------------------------------------- who is late


def test_who_moves_fast_enough_is_never_late() -> None:
    laggards: Laggards[str] = Laggards(10, 100)
    assert all(laggards.late(second, {"a": 11 * second}) == [] for second in range(100))


def test_who_moves_too_slowly_is_late_when_the_time_is_over() -> None:
    laggards: Laggards[str] = Laggards(10, 100)
    assert [laggards.late(second, {"a": 9 * second, "b": second}) for second in range(12)] == [
        *[[]] * 10,
        ["a", "b"],
        [],
    ]


def test_who_did_not_wait_for_a_moment_begins_anew() -> None:
    laggards: Laggards[str] = Laggards(10)
    assert (
        laggards.late(0, {"a": 0})
        == laggards.late(9, {"a": 0})
        == laggards.late(9.5, {})
        == laggards.late(10, {"a": 0})
        == []
    )
    assert laggards.late(20, {"a": 0}) == ["a"]


# ---------------------------------------------------------------------- uploads that crawl


async def test_content_that_crawls_is_answered_408_and_the_application_told() -> None:
    app = Reader()
    async with memory_connection(app, body_timeout=30.0, body_min_rate=240) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST), Headers(3, POST))
        for _ in range(32):
            connection.sends(Data(1, b"x"), Data(3, bytes(300)))
            await turns()
            connection.clock.advance(1)
        frames = await connection.reads()
        assert status(frames, 1) == [b"408"]
        assert app.told
        assert [type(error).__name__ for error in app.errors] == ["Disconnected"]
        assert connection.worker.limits.hits["body_min_rate"] == 1

        connection.sends(Data(3, end_stream=True))
        frames = await connection.reads()
        assert Data(3, b"done", end_stream=True) in frames


async def test_content_that_never_comes_is_answered_408() -> None:
    app = Reader()
    async with memory_connection(app, body_timeout=30.0) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST))
        await turns()
        connection.clock.advance(29)
        assert status(await connection.reads(), 1) == []
        connection.clock.advance(3)
        assert status(await connection.reads(), 1) == [b"408"]
        assert app.told


@pytest.mark.parametrize("settings", [{"body_min_rate": 0}, {"body_timeout": 3600.0}], ids=str)
async def test_a_server_may_be_patient(settings: dict[str, Any]) -> None:
    async with memory_connection(Reader(), **settings) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST))
        await turns()
        connection.clock.advance(600)
        connection.sends(Data(1, b"content", end_stream=True))
        assert Data(1, b"done", end_stream=True) in await connection.reads()


async def test_a_conversation_may_pause_once_the_response_has_begun() -> None:
    app = Reader(begin_first=True)
    async with memory_connection(app) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST))
        await turns()
        connection.clock.advance(600)
        connection.sends(Data(1, b"content", end_stream=True))
        assert Data(1, b"done", end_stream=True) in await connection.reads()


async def test_an_application_that_does_not_read_is_not_the_fault_of_the_client() -> None:
    async with memory_connection(never_read, stream_window=16_384) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST), Data(1, FRAME))
        await turns()
        connection.clock.advance(600)
        assert status(await connection.reads(), 1) == []
        connection.worker.dispatcher.cancel()
        await turns()


async def test_a_window_that_siblings_have_used_up_is_not_the_fault_of_the_client() -> None:
    reader = Reader()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (reader if scope["path"] == "/" else never_read)(scope, receive, send)

    elsewhere: Fields = [*POST[:3], (b":path", b"/elsewhere")]
    async with memory_connection(app, connection_window=65_535, body_timeout=30.0) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST), Headers(3, elsewhere), *[Data(3, bytes(16_000))] * 4)
        await turns()
        connection.clock.advance(600)
        assert status(await connection.reads(), 1) == []
        connection.sends(RstStream(3, ErrorCodes.CANCEL))  # gives the window back
        await turns()
        connection.clock.advance(32)
        assert status(await connection.reads(), 1) == [b"408"]
        connection.worker.dispatcher.cancel()
        await turns()


async def test_content_that_is_not_read_because_the_transport_is_full_is_not_late() -> None:
    reader, pour = Reader(), Pour()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await (reader if scope["method"] == "POST" else pour)(scope, receive, send)

    async with memory_connection(app, body_timeout=30.0, write_timeout=60.0) as connection:
        await begin(connection, {4: 2**30})
        connection.sends(WindowUpdate(0, 2**30), Headers(1, POST), Headers(3, GET, end_stream=True))
        await turns()
        connection.clock.advance(50)
        assert status(await connection.reads(), 1) == []
        connection.clock.advance(32)
        assert status(await connection.reads(), 1) == [b"408"]


async def test_a_websocket_that_says_nothing_is_not_late() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    async with memory_connection(app, ws_ping_interval=0.0) as connection:
        await begin(connection)
        connection.sends(Headers(1, [*EXTENDED, (b"sec-websocket-version", b"13")]))
        await turns()
        connection.clock.advance(600)
        frames = await connection.reads()
        assert status(frames, 1) == [b"200"]
        assert not those(frames, RstStream)


# ---------------------------------------------------------------------- content that is too large


async def test_content_that_is_announced_too_large_reaches_no_application() -> None:
    app = Reader()
    async with memory_connection(app, max_body=1000) as connection:
        await begin(connection)
        connection.sends(
            Headers(1, [*POST, (b"content-length", b"1001")]),
            Headers(3, [*POST, (b"content-length", b"1000")]),
        )
        frames = await connection.reads()
        assert status(frames, 1) == [b"413"]
        assert connection.worker.limits.hits["max_body"] == 1
        connection.sends(Data(1, bytes(1001), end_stream=True), Data(3, bytes(1000), end_stream=True))
        frames = await connection.reads()
        assert Data(3, b"done", end_stream=True) in frames
        assert not those(frames, RstStream)


async def test_content_that_turns_out_too_large_is_answered_413() -> None:
    app = Reader()
    async with memory_connection(app, max_body=1000) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST), Data(1, bytes(1000)))
        await turns()
        connection.sends(Data(1, b"x"))
        assert status(await connection.reads(), 1) == [b"413"]
        assert app.told
        assert sum(len(message.get("body", b"")) for message in app.received) == 1000


async def test_content_that_turns_out_too_large_in_one_read_starts_no_application() -> None:
    app = Reader()
    async with memory_connection(app, max_body=1000) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST), Data(1, bytes(1001)), Data(1, bytes(1001), end_stream=True))
        frames = await connection.reads()
        assert status(frames, 1) == [b"413"]
        assert not those(frames, RstStream)
        assert app.received == []


async def test_content_too_large_for_a_response_that_has_begun_resets_it_and_counts() -> None:
    app = Reader(begin_first=True)
    async with memory_connection(app, max_body=1000, max_resets=5) as connection:
        await begin(connection)
        for number in range(1, 11, 2):
            connection.sends(Headers(number, POST))
            await turns()
            connection.sends(Data(number, bytes(1001)))
            assert RstStream(number, ErrorCodes.CANCEL) in await connection.reads()
        assert app.told
        connection.sends(Headers(11, POST))
        await turns()
        connection.sends(Data(11, bytes(1001)))
        assert [goaway.code for goaway in those(await connection.reads(), Goaway)] == [CALM]


async def test_a_websocket_has_no_content_that_could_be_too_large() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.send", "text": "got it"})
        await receive()

    async with memory_connection(app, max_body=10, ws_deflate=False) as connection:
        await begin(connection)
        connection.sends(Headers(1, [*EXTENDED, (b"sec-websocket-version", b"13")]))
        await turns()
        connection.sends(Data(1, b"\x82\xfe\x00\xc8\0\0\0\0" + bytes(200)))
        assert Data(1, b"\x81\x06got it") in await connection.reads()


# ---------------------------------------------------------------------- windows that stay shut


@pytest.mark.parametrize("dribble", [0, 1], ids=["shut", "byte-by-byte"])
async def test_a_stream_without_window_is_reset_and_its_neighbours_go_on(dribble: int) -> None:
    app = Pour()
    async with memory_connection(app, write_timeout=60.0) as connection:
        await begin(connection, {4: 0})
        connection.sends(
            WindowUpdate(0, 2**30), Headers(1, GET, end_stream=True), Headers(3, GET, end_stream=True)
        )
        for _ in range(61):
            connection.sends(WindowUpdate(3, 1000), *[WindowUpdate(1, 1)] * dribble)
            await connection.reads()
            assert not those(connection.peer.seen, RstStream)
            connection.clock.advance(1)
        connection.clock.advance(1)
        assert those(await connection.reads(), RstStream) == [RstStream(1, ErrorCodes.CANCEL)]
        assert app.ended == 1
        assert connection.worker.limits.hits["write_timeout"] == 1
        connection.sends(WindowUpdate(3, 2_000_000))
        assert any(data.end_stream for data in those(await connection.reads(), Data))


@pytest.mark.parametrize("dribble", [0, 1], ids=["shut", "byte-by-byte"])
async def test_a_connection_without_window_is_given_up(dribble: int) -> None:
    app = Pour()
    async with memory_connection(app, write_timeout=60.0) as connection:
        await begin(connection, {4: 1_000_000})
        connection.sends(Headers(1, GET, end_stream=True), Headers(3, GET, end_stream=True))
        for _ in range(61):
            connection.sends(Ping(), *[WindowUpdate(0, 1)] * dribble)
            await connection.reads()
            assert not connection.transport.ended
            connection.clock.advance(1)
        connection.clock.advance(1)
        assert [goaway.code for goaway in those(await connection.reads(), Goaway)] == [CALM]
        assert app.ended == 2


async def test_who_opens_one_window_while_the_other_is_shut_moves_nothing() -> None:
    app = Pour()
    async with memory_connection(app, write_timeout=60.0) as connection:
        await begin(connection, {4: 0})
        connection.sends(Headers(1, GET, end_stream=True), WindowUpdate(1, 65_535))
        await connection.reads()
        for second in range(64):
            connection.sends(WindowUpdate(second % 2, 1))
            await connection.reads()
            connection.clock.advance(1)
        frames = await connection.reads()
        assert [goaway.code for goaway in those(frames, Goaway)] == [CALM]
        assert app.ended == 1


async def test_a_client_that_reads_nothing_is_cut() -> None:
    app = Pour()
    async with memory_connection(app, write_timeout=60.0) as connection:
        await begin(connection, {4: 2**30})
        connection.sends(WindowUpdate(0, 2**30), Headers(1, GET, end_stream=True))
        await turns()
        assert connection.transport.pauses == 1
        connection.clock.advance(59)
        await turns()
        assert not connection.transport.is_closing()
        connection.clock.advance(3)
        await turns()
        assert connection.transport.is_closing()
        assert app.ended == 1
        assert connection.worker.limits.hits["write_timeout"] == 1


async def test_a_client_that_reads_slowly_is_not() -> None:
    app = Pour()
    async with memory_connection(app, write_timeout=60.0) as connection:
        await begin(connection, {4: 2**30})
        connection.sends(WindowUpdate(0, 2**30), Headers(1, GET, end_stream=True))
        await turns()
        for _ in range(300):
            connection.clock.advance(1)
            del connection.transport.written[:300]  # not enough to make room
            if len(connection.transport.written) < 20_000:
                connection.transport.read()
            await turns()
        assert not connection.transport.is_closing()
        assert app.ended == 0


async def test_nothing_is_looked_at_where_nothing_waits() -> None:
    async with memory_connection(Reader()) as connection:
        await begin(connection)
        connection.sends(Headers(1, GET, end_stream=True))
        await connection.reads()
        assert len(connection.clock._watched) == 1
        connection.sends(Headers(3, POST))
        await turns()
        assert len(connection.clock._watched) == 2
        connection.sends(Data(3, b"content", end_stream=True))
        await connection.reads()
        connection.clock.advance(2)
        assert len(connection.clock._watched) == 1


# ---------------------------------------------------------------------- answers that come early


async def test_a_client_that_is_answered_early_may_finish_sending() -> None:
    async with memory_connection(too_large, stream_window=65_535, max_drain=200_000) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST), *[Data(1, FRAME)] * 3)
        frames = await connection.reads()
        assert Data(1, b"too large", end_stream=True) in frames
        sent, window = 3, 65_535 - 3 * len(FRAME)
        while sent < 12:
            updates = those(await connection.reads(), WindowUpdate)
            window += sum(update.increment for update in updates if update.stream_id == 1)
            connection.peer.seen.clear()
            assert window >= len(FRAME), "the client would wait"
            connection.sends(Data(1, FRAME))
            window -= len(FRAME)
            sent += 1
        connection.sends(Data(1, b"the end", end_stream=True))
        await turns()
        assert not those(await connection.reads(), RstStream)
        assert not connection.server._answered


async def test_a_client_that_sends_too_much_after_its_answer_is_stopped() -> None:
    async with memory_connection(too_large, max_drain=100_000) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST))
        await connection.reads()
        for _ in range(6):
            connection.sends(Data(1, FRAME))
        assert not those(await connection.reads(), RstStream)
        connection.sends(Data(1, FRAME), Data(1, FRAME), Data(1, FRAME, end_stream=True))
        assert those(await connection.reads(), RstStream) == [RstStream(1, ErrorCodes.NO_ERROR)]


async def test_a_client_that_takes_too_long_after_its_answer_is_stopped() -> None:
    async with memory_connection(too_large, linger_timeout=5.0) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST))
        await connection.reads()
        for _ in range(5):
            connection.sends(Data(1, b"x"))
            connection.clock.advance(1)
            assert not those(await connection.reads(), RstStream)
        connection.clock.advance(1)
        assert those(await connection.reads(), RstStream) == [RstStream(1, ErrorCodes.NO_ERROR)]


async def test_a_connection_that_is_left_waits_for_the_rest_of_an_upload() -> None:
    async with memory_connection(too_large) as connection:
        await begin(connection)
        connection.sends(Headers(1, POST))
        await connection.reads()
        connection.server.shutdown()
        await turns()
        assert not connection.transport.ended
        connection.sends(Data(1, b"the end", end_stream=True))
        frames = await connection.reads()
        assert Goaway(1, ErrorCodes.NO_ERROR) in frames
        assert connection.transport.ended


# ---------------------------------------------------------------------- requests per connection


async def test_after_so_many_requests_the_connection_is_left_in_good_order() -> None:
    async with memory_connection(Reader(), max_requests_per_connection=3) as connection:
        await begin(connection)
        connection.sends(*[Headers(number, POST) for number in (1, 3, 5)])
        await turns()
        connection.sends(Data(1, end_stream=True), Data(3, end_stream=True))
        assert not those(await connection.reads(), Goaway)
        connection.clock.advance(5)  # the last one takes its time
        assert Goaway(2**31 - 1, ErrorCodes.NO_ERROR) in await connection.reads()
        connection.clock.advance(1)  # for what crosses the first one on its way
        assert Goaway(5, ErrorCodes.NO_ERROR) in await connection.reads()
        connection.sends(Headers(7, GET, end_stream=True))
        assert RstStream(7, ErrorCodes.REFUSED_STREAM) in await connection.reads()
        connection.sends(Data(5, b"content", end_stream=True))
        frames = await connection.reads()
        assert Data(5, b"done", end_stream=True) in frames
        assert len(those(frames, Goaway)) == 2
        assert connection.transport.ended
        assert connection.worker.limits.hits["max_requests_per_connection"] == 1


async def test_an_idle_connection_that_has_had_its_requests_is_left_at_once() -> None:
    async with memory_connection(too_large, max_requests_per_connection=1) as connection:
        await begin(connection)
        connection.sends(Headers(1, GET, end_stream=True))
        frames = await connection.reads()
        assert frames[-2:] == [Data(1, b"too large", end_stream=True), Goaway(1, ErrorCodes.NO_ERROR)]
        assert connection.transport.ended
