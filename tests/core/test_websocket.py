"""WebSocketExchange between a fake wire and an application made of calls: the table, credit, and any order."""

import asyncio
import contextlib
import itertools
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphorn.core.asgi import Fields, Message, Scope
from alphorn.core.config import Config
from alphorn.core.errors import UnexpectedMessage
from alphorn.core.exchange import Head, Stream
from alphorn.core.websocket import MOVES, State, WebSocketExchange
from alphorn.core.worker import Worker
from alphorn.protocols.websocket import open_handshake
from support.clock import ManualClock
from support.waiting import turns, within
from support.websocket_client import frame

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
HIGH: Final = 64 * 1024
MANY: Final = 1024


class FakeStream:
    """A wire that holds the core to its word: nothing after the end, nothing when it is gone."""

    zero_copy: Final = False
    id: Final = 1

    def __init__(self) -> None:
        self.writable = True
        self.heads: list[Head] = []
        self.sent: list[bytes] = []
        self.credit = 0
        self.ended = False
        self.aborted = False
        self.gone = False

    @property
    def over(self) -> bool:
        return self.ended or self.aborted or self.gone

    def new_extensions(self) -> dict[str, dict[str, Any]]:
        return {"websocket.http.response": {}}

    def send(self, head: Head | None, body: bytes, end: bool) -> None:
        assert not self.over, f"sent after the end: {head} {body!r}"
        assert (head is None) == bool(self.heads), "a head comes once, and first"
        if head is not None:
            self.heads.append(head)
        self.sent.append(body)
        self.ended = end

    def pull(self, taken: int) -> None:
        assert not self.over, f"credited after the end: {taken}"
        self.credit += taken

    def abort(self) -> None:
        assert not self.over, "aborted after the end"
        self.aborted = True

    def refuse(self) -> bool:
        raise AssertionError("never for a WebSocket")

    def send_informational(self, status: int, fields: Fields) -> None:
        raise AssertionError("never for a WebSocket")

    def send_trailers(self, fields: Fields) -> None:
        raise AssertionError("never for a WebSocket")

    async def send_file(self, descriptor: int, offset: int, count: int) -> int:
        raise AssertionError("never for a WebSocket")

    def push(self, path: bytes, fields: Fields) -> None:
        raise AssertionError("never for a WebSocket")


class Scene:
    """One exchange with all that surrounds it."""

    def __init__(self, **config: Any) -> None:
        async def nobody(scope: object, receive: object, send: object) -> None:
            """The dispatcher is not asked to run anything."""

        self.clock = ManualClock()
        self.config = Config(**config)
        self.worker = Worker(self.config, self.clock, nobody, open_handshake)
        self.stream = FakeStream()
        scope: Scope = {
            "type": "websocket",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "http_version": "2",
            "client": None,
            "headers": [],
            "extensions": self.stream.new_extensions(),
        }
        handshake = open_handshake([(b"sec-websocket-version", b"13")], "2", self.config)
        self.exchange = WebSocketExchange(self.worker, self.stream, scope, handshake)
        self.fed = 0

    def feed(self, data: bytes) -> None:
        self.fed += len(data)
        self.exchange.feed(data)

    async def accept(self) -> None:
        assert await self.exchange.receive() == {"type": "websocket.connect"}
        await self.exchange.send({"type": "websocket.accept"})

    @property
    def frames(self) -> list[bytes]:
        return [sent for sent in self.stream.sent if sent]


async def opened(**config: Any) -> Scene:
    scene = Scene(**config)
    await scene.accept()
    return scene


# ------------------------------------------------------------------ turns

PINGS: Final = 500


async def test_the_pings_of_one_read_are_answered_in_turns() -> None:
    scene = await opened()
    scene.feed(frame(PING, b"?") * PINGS)
    answered = [len(scene.frames)]
    assert 0 < answered[0] <= 100
    assert not scene.stream.credit
    while answered[-1] < PINGS:
        await turns(1)
        answered.append(len(scene.frames))
    assert len(answered) > PINGS / 100
    assert scene.stream.credit == scene.fed


async def test_what_comes_meanwhile_waits_for_its_turn() -> None:
    scene = await opened()
    scene.feed(frame(PING, b"?") * PINGS)
    before = len(scene.frames)
    scene.feed(frame(TEXT, b"late"))
    assert len(scene.frames) == before
    async with within("the message"):
        assert await scene.exchange.receive() == {"type": "websocket.receive", "text": "late"}


async def test_a_client_that_leaves_has_said_what_it_said() -> None:
    scene = await opened()
    scene.feed(frame(PING, b"?") * PINGS + frame(TEXT, b"bye"))
    scene.exchange.feed_end()
    assert await scene.exchange.receive() == {"type": "websocket.receive", "text": "bye"}
    assert (await scene.exchange.receive())["type"] == "websocket.disconnect"


# ------------------------------------------------------------------ the table


async def bring_to(state: State) -> Scene:
    scene = Scene()
    if state is State.DENYING:
        await scene.exchange.send({"type": "websocket.http.response.start", "status": 401})
    elif state is not State.CONNECTING:
        await scene.accept()
    if state is State.CLOSING:
        await scene.exchange.send({"type": "websocket.close"})
    elif state is State.CLOSED:
        await scene.exchange.send({"type": "websocket.close"})
        scene.feed(frame(CLOSE))
    assert scene.exchange._state is state
    return scene


MESSAGES: Final[dict[str, Message]] = {
    "websocket.accept": {},
    "websocket.close": {},
    "websocket.send": {"text": "hi"},
    "websocket.http.response.start": {"status": 403},
    "websocket.http.response.body": {"body": b"no"},
    "websocket.receive": {"text": "hi"},
    "http.response.start": {"status": 200},
}


@pytest.mark.parametrize("state", State, ids=lambda state: state.name)
@pytest.mark.parametrize("kind", MESSAGES)
async def test_a_message_is_legal_exactly_where_the_table_has_it(state: State, kind: str) -> None:
    scene = await bring_to(state)
    message = {"type": kind, **MESSAGES[kind]}

    if kind in MOVES[state]:
        await scene.exchange.send(message)
        return
    sent = list(scene.stream.sent)
    with pytest.raises(UnexpectedMessage) as raised:
        await scene.exchange.send(message)
    assert str(raised.value) == (
        f"{kind!r} while the websocket is {state.value}; legal: {', '.join(MOVES[state]) or 'nothing'}"
    )
    assert scene.stream.sent == sent
    assert scene.exchange._state is state


def test_every_message_an_application_may_send_is_tried() -> None:
    assert {kind for moves in MOVES.values() for kind in moves} <= set(MESSAGES)


@pytest.mark.parametrize("message", [{}, None, [], "websocket.accept", {"type": {}}, {"type": 1}], ids=repr)
async def test_what_is_no_message_is_refused(message: Any) -> None:
    scene = Scene()

    with pytest.raises(UnexpectedMessage):
        await scene.exchange.send(message)


async def test_the_denial_extension_is_refused_where_the_carrier_does_not_have_it() -> None:
    scene = Scene()
    scene.exchange.scope["extensions"].clear()

    with pytest.raises(UnexpectedMessage, match="not among the extensions"):
        await scene.exchange.send({"type": "websocket.http.response.start", "status": 401})


# ------------------------------------------------------------------ what is sent, and in how many pieces


async def test_accepting_is_one_send_and_so_is_each_message() -> None:
    scene = await opened()
    await scene.exchange.send({"type": "websocket.send", "text": "hi"})

    assert [head.status for head in scene.stream.heads] == [200]
    assert scene.stream.sent == [b"", b"\x81\x02hi"]


async def test_the_answer_to_a_close_leaves_together_with_the_end() -> None:
    scene = await opened()
    scene.feed(frame(CLOSE, b"\x0f\xa0"))

    assert scene.frames == [b"\x88\x02\x0f\xa0"]
    assert scene.stream.ended


async def test_a_refusal_is_one_send() -> None:
    scene = Scene()
    await scene.exchange.send({"type": "websocket.close"})

    assert [head.status for head in scene.stream.heads] == [403]
    assert scene.stream.sent == [b"Forbidden"]
    assert scene.stream.ended


# ------------------------------------------------------------------ credit


async def test_credit_is_given_when_the_last_waiting_message_is_taken() -> None:
    scene = await opened()
    scene.feed(frame(BINARY, bytes(1000)) + frame(BINARY, bytes(1000)))
    assert scene.stream.credit == 0
    await scene.exchange.receive()
    assert scene.stream.credit == 0
    await scene.exchange.receive()

    assert scene.stream.credit == scene.fed


async def test_a_message_that_is_not_whole_is_credited_as_it_comes() -> None:
    scene = await opened()
    scene.feed(frame(BINARY, bytes(1000))[:500])

    assert scene.stream.credit == 500


async def test_pings_are_credited_at_once() -> None:
    scene = await opened()
    scene.feed(frame(PING, b"hello"))

    assert scene.stream.credit == scene.fed


async def test_no_more_is_unpacked_than_the_application_takes() -> None:
    """What is compressed may be a thousand times as much: it stays as it came."""
    scene = await opened()
    scene.feed(frame(BINARY, bytes(HIGH // 2)) * 10)

    assert scene.exchange._queued_bytes == HIGH
    for _ in range(10):
        assert (await scene.exchange.receive())["bytes"] == bytes(HIGH // 2)
        assert scene.exchange._queued_bytes <= HIGH
    assert scene.stream.credit == scene.fed


async def test_so_many_messages_are_unpacked_at_a_time_and_then_others_have_their_turn() -> None:
    """Or one read of the smallest messages would keep everybody else waiting for half a second."""
    scene = await opened()
    scene.feed(frame(BINARY, b"") * 3 * MANY)
    turns = 0
    others = asyncio.get_running_loop()

    def turn() -> None:
        nonlocal turns
        turns += 1
        others.call_soon(turn)

    others.call_soon(turn)
    for number in range(3 * MANY):
        assert len(scene.exchange._messages) <= MANY
        assert (await scene.exchange.receive())["bytes"] == b""
        assert turns == number // MANY
    assert scene.stream.credit == scene.fed


async def test_bytes_before_accept_are_credited_when_they_are_taken() -> None:
    scene = Scene()
    scene.feed(frame(TEXT, b"early"))
    assert scene.stream.credit == 0
    await scene.accept()

    assert (await scene.exchange.receive())["text"] == "early"
    assert scene.stream.credit == scene.fed


async def test_bytes_before_a_refusal_are_credited_and_dropped() -> None:
    scene = Scene()
    scene.feed(b"early")
    await scene.exchange.send({"type": "websocket.http.response.start", "status": 401})
    scene.feed(b"late")

    assert scene.stream.credit == scene.fed
    await scene.exchange.send({"type": "websocket.http.response.body"})
    scene.feed(b"later")
    assert await scene.exchange.receive() == {"type": "websocket.connect"}
    assert (await scene.exchange.receive())["type"] == "websocket.disconnect"


# ------------------------------------------------------------------ pings, pongs and room


async def test_pongs_are_not_collected_for_a_client_that_does_not_read() -> None:
    """RFC 6455, 5.5.3: it is enough to answer the newest ping."""
    scene = await opened(max_control_frames=2000)
    scene.feed(frame(PING, b"first"))
    scene.stream.writable = False
    for number in range(1000):
        scene.feed(frame(PING, b"%d" % number))
    assert scene.frames == [b"\x8a\x05first"]
    scene.stream.writable = True
    scene.exchange.resume()

    assert scene.frames == [b"\x8a\x05first", b"\x8a\x03999"]
    scene.exchange.resume()
    assert len(scene.frames) == 2


async def test_no_pong_is_owed_after_a_close() -> None:
    scene = await opened()
    scene.stream.writable = False
    scene.feed(frame(PING, b"owed"))
    await scene.exchange.send({"type": "websocket.close"})
    scene.stream.writable = True
    scene.exchange.resume()
    scene.feed(frame(PING, b"late"))

    assert scene.frames == [b"\x88\x02\x03\xe8"]


async def test_a_client_that_reads_is_not_asked_whether_it_is_there() -> None:
    scene = await opened(ws_ping_interval=20)
    for _ in range(10):
        scene.clock.advance(15)
        scene.exchange.resume()

    assert scene.frames == []


async def test_a_client_that_neither_reads_nor_writes_is_given_up() -> None:
    scene = await opened(ws_ping_interval=20, ws_ping_timeout=10)
    scene.stream.writable = False
    sending = asyncio.ensure_future(scene.exchange.send({"type": "websocket.send", "bytes": bytes(10)}))
    await turns(1)
    scene.clock.advance(30)

    with pytest.raises(OSError, match="gone"):
        await sending
    assert scene.stream.ended


async def test_a_deadline_is_watched_from_accept_to_the_end_and_not_longer() -> None:
    scene = Scene()
    assert not scene.clock._watched
    await scene.accept()
    assert [*scene.clock._watched] == [scene.exchange]
    scene.exchange.lost()

    assert not scene.clock._watched


# ------------------------------------------------------------------ floods


@pytest.mark.parametrize(
    "flood",
    [frame(PING), frame(PONG), frame(CONTINUATION, fin=False)],
    ids=["pings", "pongs", "fragments"],
)
async def test_the_budget_is_spent_to_the_last_frame_and_comes_back(flood: bytes) -> None:
    scene = await opened(max_control_frames=10)
    scene.feed(frame(TEXT, fin=False) + flood * 9)
    scene.clock.advance(2)
    scene.feed(flood * 2)
    assert not scene.stream.ended
    assert not scene.worker.limits.hits
    scene.feed(flood)

    assert scene.frames[-1] == b"\x88\x2c\x03\xf0too many control frames or empty fragments"
    assert scene.stream.ended
    assert scene.worker.limits.hits == {"max_control_frames": 1}


async def test_a_flood_is_not_read_to_its_end() -> None:
    scene = await opened(max_control_frames=10)
    scene.feed(frame(TEXT, b"before") + frame(PING) * 1000 + frame(TEXT, b"behind"))

    assert len(scene.frames) == 11
    assert (await scene.exchange.receive())["text"] == "before"
    assert await scene.exchange.receive() == {
        "type": "websocket.disconnect",
        "code": 1006,
        "reason": "too many control frames or empty fragments",
    }


@pytest.mark.parametrize(
    "flood", [frame(PING), frame(TEXT, b"late"), frame(BINARY)], ids=["ping", "text", "empty"]
)
async def test_who_goes_on_and_on_after_our_close_frame_is_not_listened_to(flood: bytes) -> None:
    scene = await opened(max_control_frames=10)
    await scene.exchange.send({"type": "websocket.close"})
    scene.feed(flood * 10)
    assert not scene.stream.ended
    scene.feed(flood * 10)

    assert scene.stream.ended
    assert scene.frames == [b"\x88\x02\x03\xe8"]


async def test_crumbs_behind_a_message_too_big_are_counted_like_others() -> None:
    scene = await opened(max_control_frames=10, ws_max_message=1)
    scene.feed(frame(TEXT, b"big") + frame(TEXT) * 10)
    assert not scene.stream.ended
    scene.feed(frame(TEXT))

    assert scene.stream.ended
    assert scene.worker.limits.hits == {"ws_max_message": 1, "max_control_frames": 1}


# ------------------------------------------------------------------ any order

WIRE_MOVES: Final = st.one_of(
    st.tuples(st.just("feed"), st.sampled_from(["text", "big", "half", "ping", "close", "fault", "huge"])),
    st.tuples(st.just("cut"), st.integers(1, 20)),
    st.tuples(st.sampled_from(["full", "resume", "shutdown"]), st.none()),
    st.tuples(st.just("advance"), st.sampled_from([1, 9, 11, 25])),
    st.tuples(st.sampled_from(["feed_end", "lost"]), st.none()),
)
APP_MOVES: Final = st.one_of(
    st.tuples(st.just("receive"), st.none()),
    st.tuples(st.just("send"), st.sampled_from([{"type": kind, **more} for kind, more in MESSAGES.items()])),
    st.tuples(st.just("finish"), st.sampled_from([None, ValueError("boom")])),
)
PIECES: Final = {
    "text": frame(TEXT, b"hi"),
    "big": frame(BINARY, bytes(HIGH)),
    "half": frame(TEXT, b"half of ", fin=False),
    "ping": frame(PING, b"?"),
    "close": frame(CLOSE, b"\x0f\xa0bye"),
    "fault": frame(3),
    "huge": frame(BINARY, bytes(2 * HIGH + 1)),
}


class Play:
    """Plays moves of wire and application in a given order, as far as each may still make them."""

    def __init__(self) -> None:
        self.scene = Scene(ws_max_message=2 * HIGH, ws_ping_interval=20, ws_ping_timeout=10)
        self.finished = False
        self.calls: list[asyncio.Task[Any]] = []
        self.received: list[Message] = []
        self.unfed = b""

    async def move(self, name: str, argument: Any) -> None:
        if name in ("receive", "send", "finish"):
            if not self.finished:
                self.act(name, argument)
        elif name in ("full", "resume", "shutdown", "advance"):
            self.surround(name, argument)
        elif not self.scene.stream.over:
            self.hear(name, argument)
        await turns(3)

    def act(self, name: str, argument: Any) -> None:
        """Let the application do something."""
        if name == "receive":
            self.call(self.receive())
        elif name == "send":
            self.call(self.scene.exchange.send(argument))
        else:
            self.end_application(argument)

    def surround(self, name: str, argument: Any) -> None:
        """Let something happen that neither side does."""
        stream, exchange = self.scene.stream, self.scene.exchange
        if name == "full":
            stream.writable = False
        elif name == "resume":
            stream.writable = True
            if not stream.over:
                exchange.resume()
        elif name == "shutdown":
            self.scene.worker.closing = True
            if not stream.over:
                exchange.shutdown()
        else:
            self.scene.clock.advance(argument)

    def hear(self, name: str, argument: Any) -> None:
        """Let the client say something, as long as there is a stream for it."""
        stream, exchange = self.scene.stream, self.scene.exchange
        if name == "feed":
            self.unfed += PIECES[argument]
            self.scene.feed(self.unfed)
            self.unfed = b""
        elif name == "cut":  # the next piece comes together with the rest of this one
            self.unfed = PIECES["text"][argument:]
            self.scene.feed(PIECES["text"][:argument])
        elif name == "feed_end":
            exchange.feed_end()
        elif name == "lost":
            stream.gone = True
            exchange.lost()

    def call(self, awaited: Coroutine[Any, Any, None]) -> None:
        self.calls.append(asyncio.ensure_future(awaited))

    async def receive(self) -> None:
        self.received.append(await self.scene.exchange.receive())

    def end_application(self, error: Exception | None) -> None:
        """What the dispatcher does: no call outlives the application."""
        self.finished = True
        for call in self.calls:
            call.cancel()
        self.scene.exchange.finished(error)

    async def end(self) -> None:
        """End whatever is still going on; the wire's side never raises."""
        stream, exchange = self.scene.stream, self.scene.exchange
        if not stream.over:
            stream.gone = True
            exchange.lost()
        async with within("all calls to end"):
            results = await asyncio.gather(*self.calls, return_exceptions=True)
        for result in results:
            assert isinstance(result, UnexpectedMessage | OSError | asyncio.CancelledError | None), result
        if not self.finished:
            while (message := await exchange.receive())["type"] != "websocket.disconnect":
                self.received.append(message)
            for _ in range(2):
                assert await exchange.receive() == message
            with contextlib.suppress(UnexpectedMessage, OSError):
                await exchange.send({"type": "websocket.send", "text": "hi"})
                pytest.fail("sending after the end raises")
            self.end_application(None)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(
    st.lists(st.one_of(WIRE_MOVES, APP_MOVES, st.just(("send", {"type": "websocket.accept"}))), max_size=25)
)
def test_no_order_of_events_raises_into_the_wire_or_leaves_anything_behind(
    moves: list[tuple[str, Any]],
) -> None:
    async def play() -> None:
        play = Play()
        for name, argument in moves:
            await play.move(name, argument)
        await play.end()

        scene = play.scene
        assert not scene.clock._watched
        assert not scene.exchange._readers.waiting
        assert not scene.exchange._writers.waiting
        assert not scene.exchange._messages
        assert scene.exchange._codec is None
        assert scene.stream.credit <= scene.fed
        kinds = [message["type"] for message in play.received]
        assert kinds == sorted(kinds, key=list(ORDER).index)
        assert kinds.count("websocket.connect") <= 1

    asyncio.run(play())


ORDER: Final = ("websocket.connect", "websocket.receive", "websocket.disconnect")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(0, 2 * HIGH), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(1000, 100_000), st.integers(0, 3)), min_size=1),
)
def test_every_message_arrives_once_and_in_order_and_every_byte_is_credited(
    sizes: list[int], rhythm: list[tuple[int, int]]
) -> None:
    """Whatever the rhythm of feeding and receiving."""

    async def play() -> None:
        scene = await opened()
        messages = [bytes([index]) * size for index, size in enumerate(sizes)]
        data = memoryview(b"".join(frame(BINARY, message) for message in messages))
        received: list[bytes] = []
        for size, count in itertools.cycle(rhythm):
            scene.feed(bytes(data[:size]))
            data = data[size:]
            for _ in range(min(count, len(scene.exchange._messages))):
                received.append((await scene.exchange.receive())["bytes"])  # noqa: PERF401 - one by one
            if not data:
                break
        while len(received) < len(messages):
            received.append((await scene.exchange.receive())["bytes"])

        assert received == messages
        assert scene.stream.credit == scene.fed

    asyncio.run(play())


if TYPE_CHECKING:
    _stream: type[Stream] = FakeStream
