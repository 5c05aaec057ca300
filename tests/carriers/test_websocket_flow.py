"""Slow sides, silent sides and pings: nobody is made to hold what the other does not take."""

import asyncio

import pytest

from alphorn.core.errors import Disconnected
from support.carrier import HTTP2_CLEAR, HTTP2_TLS
from support.clock import ManualClock
from support.conversation import settled
from support.http2_client import Http2Client
from support.serving import Connect, Serve
from support.steered_app import Call, SteeredApp
from support.talk import BeginTalk
from support.waiting import stays_pending
from support.websocket_client import Close, WebSocketClient, frame
from support.wire import Wire

over_http2 = pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)

BINARY, CLOSE, PING, PONG = 2, 8, 9, 10
STREAM_WINDOW = 256 * 1024
HIGH_MARK = 64 * 1024


def numbered(number: int, size: int) -> bytes:
    return number.to_bytes(4) * (size // 4)


# ------------------------------------------------------------------ a slow application


async def test_a_client_that_floods_is_stopped_until_the_application_receives(talk: BeginTalk) -> None:
    websocket, call = await talk()
    size, count = 64 * 1024, 192  # 12 MiB: more than the kernel holds between the two
    sending = asyncio.ensure_future(flood(websocket, size, count))
    await settled(lambda: wire_of(websocket).sent)
    assert await stays_pending(sending)
    if isinstance(websocket.exchange._client, Http2Client):
        assert wire_of(websocket).sent < 2 * STREAM_WINDOW

    for number in range(count):
        assert await call.receive() == {"type": "websocket.receive", "bytes": numbered(number, size)}
    await sending
    await websocket.send("and on it goes")
    assert (await call.receive())["text"] == "and on it goes"


async def test_a_message_larger_than_every_window_arrives(talk: BeginTalk) -> None:
    """What a message needs before it is whole is not held against the client."""
    websocket, call = await talk(stream_window=16 * 1024)
    message = bytes(1024 * 1024)
    sending = asyncio.ensure_future(websocket.send(message))

    assert (await call.receive())["bytes"] == message
    await sending


@over_http2
async def test_a_flooded_application_delays_nobody_else(
    serve: Serve, app: SteeredApp, connect: Connect, talk: BeginTalk
) -> None:
    client = await connect(await serve(app))
    assert isinstance(client, Http2Client)
    flooded, call = await talk.on(client)
    sending = asyncio.ensure_future(flood(flooded, 64 * 1024, 8))
    await settled(lambda: client.wire.sent)
    assert await stays_pending(sending, 0.02)

    await client.ping()
    other, other_call = await talk.on(client)
    await other.send("hello")
    assert (await other_call.receive())["text"] == "hello"
    for number in range(8):
        assert (await call.receive())["bytes"][:4] == number.to_bytes(4)
    await sending


@over_http2
async def test_what_an_application_never_takes_is_given_back_when_its_client_leaves(
    serve: Serve, app: SteeredApp, connect: Connect, talk: BeginTalk
) -> None:
    """The window of the connection is for all its streams."""
    client = await connect(await serve(app, connection_window=65535, stream_window=65535))
    for _ in range(4):
        websocket, call = await talk.on(client)
        await websocket.send(bytes(40_000))
        await settled(lambda: 0)
        await websocket.abandon()
        call.finish()
    websocket, call = await talk.on(client)
    await websocket.send(bytes(60_000))

    assert len((await call.receive())["bytes"]) == 60_000


async def flood(websocket: WebSocketClient, size: int, count: int) -> None:
    for number in range(count):
        await websocket.send_frame(BINARY, numbered(number, size))


def wire_of(websocket: WebSocketClient) -> Wire:
    return websocket.exchange._client.wire


# ------------------------------------------------------------------ a slow client


async def test_an_application_that_floods_waits_until_the_client_reads(talk: BeginTalk) -> None:
    websocket, call = await talk(receive_window=64 * 1024)
    size, count = 64 * 1024, 192  # 12 MiB
    sent: list[int] = []
    sending = asyncio.ensure_future(send_all(call, size, count, sent))
    await settled(lambda: len(sent))
    assert await stays_pending(sending)
    if isinstance(websocket.exchange._client, Http2Client):
        assert len(sent) * size <= 64 * 1024 + 2 * HIGH_MARK

    for number in range(count):
        assert await websocket.receive() == numbered(number, size)
    await sending


@pytest.mark.parametrize("how", ["abandon", "close"])
async def test_a_client_that_leaves_wakes_an_application_that_waits_for_room(
    talk: BeginTalk, how: str
) -> None:
    websocket, call = await talk(receive_window=64 * 1024)
    sending = asyncio.ensure_future(send_all(call, 64 * 1024, 1000, []))
    await settled(lambda: 0)
    if how == "abandon":
        await websocket.abandon()
    else:
        await websocket.send_frame(CLOSE)

    with pytest.raises(Disconnected):
        await sending
    code = 1006 if how == "abandon" else 1005
    assert await call.receive() == {"type": "websocket.disconnect", "code": code, "reason": ""}


async def test_a_close_does_not_wait_for_room(talk: BeginTalk) -> None:
    websocket, call = await talk(receive_window=64 * 1024)
    sent: list[int] = []
    sending = asyncio.ensure_future(send_all(call, 64 * 1024, 1000, sent))
    await settled(lambda: len(sent))
    await call.send({"type": "websocket.close", "code": 4000})
    await sending_ends(sending)

    received = 0
    while (message := await websocket.receive()) != Close(4000):
        assert message == numbered(received, 64 * 1024)
        received += 1
    assert received in (len(sent), len(sent) + 1)


async def test_an_application_receives_while_it_waits_for_room(talk: BeginTalk) -> None:
    """Full duplex: neither direction waits for the other."""
    websocket, call = await talk(receive_window=64 * 1024)
    sending = asyncio.ensure_future(send_all(call, 64 * 1024, 200, []))
    await settled(lambda: 0)
    for number in range(20):
        await websocket.send(f"message {number}")
        assert (await call.receive())["text"] == f"message {number}"
    assert not sending.done()

    for number in range(200):
        assert await websocket.receive() == numbered(number, 64 * 1024)
    await sending


async def test_a_cancelled_receive_leaves_its_neighbour_waiting(talk: BeginTalk) -> None:
    websocket, call = await talk()
    first, second = (asyncio.ensure_future(call.receive()) for _ in range(2))
    assert await stays_pending(second, 0.02)
    first.cancel()
    await websocket.send("for the second")

    assert (await second)["text"] == "for the second"


async def send_all(call: Call, size: int, count: int, sent: list[int]) -> None:
    for number in range(count):
        await call.send({"type": "websocket.send", "bytes": numbered(number, size)})
        sent.append(number)


async def sending_ends(sending: asyncio.Future[None]) -> None:
    """Expect that whoever still wanted to send learns that it may not: by whichever error."""
    with pytest.raises(RuntimeError):
        await sending


# ------------------------------------------------------------------ pings of the client


@pytest.mark.parametrize("payload", [b"", b"are you there?", bytes(125)], ids=["empty", "text", "longest"])
async def test_a_ping_is_answered_with_what_it_says(talk: BeginTalk, payload: bytes) -> None:
    websocket, _ = await talk()
    await websocket.ping(payload)

    assert websocket.pongs == [payload]


async def test_pings_are_answered_while_the_application_is_busy(talk: BeginTalk) -> None:
    websocket, call = await talk()
    await websocket.send("not received yet")
    await websocket.ping(b"one")
    await websocket.ping(b"two")

    assert (await call.receive())["text"] == "not received yet"


async def test_a_pong_that_nobody_asked_for_is_ignored(talk: BeginTalk) -> None:
    """RFC 6455, 5.5.3."""
    websocket, call = await talk()
    await websocket.send_pong(b"hello?")
    await websocket.send("a message")

    assert (await call.receive())["text"] == "a message"


@over_http2
async def test_a_client_that_pings_and_does_not_read_gets_one_answer_in_the_end(talk: BeginTalk) -> None:
    """Pongs nobody reads are not collected (RFC 6455, 5.5.3: the newest ping is enough)."""
    websocket, call = await talk(receive_window=16 * 1024, max_control_frames=5000)
    pings = b"".join(frame(PING, number.to_bytes(4) * 31) for number in range(4000))
    await websocket.send_raw(pings)
    await websocket.send("behind the pings")
    assert (await call.receive())["text"] == "behind the pings"
    sending = asyncio.ensure_future(call.send({"type": "websocket.send", "text": "behind the pongs"}))

    assert await websocket.receive() == "behind the pongs"
    await sending
    await websocket.ping(b"last")
    assert len(websocket.pongs) * 126 < 16 * 1024 + HIGH_MARK + 1024
    assert (3999).to_bytes(4) * 31 in websocket.pongs


# ------------------------------------------------------------------ pings of the server


async def test_a_silent_client_is_pinged_and_lives_on_if_it_answers(
    talk: BeginTalk, clock: ManualClock
) -> None:
    websocket, _ = await talk(clock=clock, ws_ping_interval=20, ws_ping_timeout=10)
    for _ in range(5):
        clock.advance(19)
        await websocket.ping()  # the client's, so that nothing else is on its way
        seen = len(websocket.pings)
        clock.advance(20)
        await websocket.next_ping()
        assert len(websocket.pings) == seen + 1
        await websocket.ping()  # behind the pong

    assert websocket.closed is None


async def test_a_client_that_says_something_else_is_not_pinged(talk: BeginTalk, clock: ManualClock) -> None:
    websocket, call = await talk(clock=clock, ws_ping_interval=20, ws_ping_timeout=10)
    for number in range(10):
        clock.advance(15)
        await websocket.send(f"{number}")
        assert (await call.receive())["text"] == f"{number}"
    await websocket.ping()

    assert websocket.pings == []


async def test_a_client_that_answers_no_ping_is_given_up(talk: BeginTalk, clock: ManualClock) -> None:
    websocket, call = await talk(clock=clock, ws_ping_interval=20, ws_ping_timeout=10)
    websocket.answers_pings = False
    receiving = asyncio.ensure_future(call.receive())
    clock.advance(20)
    await websocket.next_ping()
    clock.advance(9)
    assert await stays_pending(receiving, 0.02)
    clock.advance(1)

    assert await receiving == {"type": "websocket.disconnect", "code": 1006, "reason": "ping timeout"}
    assert await websocket.receive() == Close(1011, "ping timeout")
    assert await websocket.wait_closed()


async def test_a_long_timeout_does_not_make_pings_rarer(talk: BeginTalk, clock: ManualClock) -> None:
    websocket, _ = await talk(clock=clock, ws_ping_interval=20, ws_ping_timeout=1000)
    for _ in range(3):
        clock.advance(20)
        await websocket.next_ping()
        await websocket.ping()

    assert len(websocket.pings) == 3


async def test_without_an_interval_there_are_no_pings(talk: BeginTalk, clock: ManualClock) -> None:
    websocket, _ = await talk(clock=clock, ws_ping_interval=0)
    clock.advance(10_000)
    await websocket.ping()

    assert websocket.pings == []


async def test_without_a_timeout_a_silent_client_is_pinged_for_ever(
    talk: BeginTalk, clock: ManualClock
) -> None:
    websocket, _ = await talk(clock=clock, ws_ping_interval=20, ws_ping_timeout=0)
    websocket.answers_pings = False
    for _ in range(10):
        clock.advance(20)
        await websocket.next_ping()

    assert websocket.closed is None


async def test_a_client_is_not_blamed_for_an_application_that_does_not_receive(
    talk: BeginTalk, clock: ManualClock
) -> None:
    """Its pong may wait behind messages that we do not read."""
    websocket, call = await talk(clock=clock, ws_ping_interval=20, ws_ping_timeout=10)
    sending = asyncio.ensure_future(flood(websocket, 64 * 1024, 192))
    await settled(lambda: wire_of(websocket).sent)
    clock.advance(1000)
    for number in range(192):
        assert (await call.receive())["bytes"][:4] == number.to_bytes(4)
    await sending
    await websocket.ping()

    assert websocket.closed is None


async def test_after_the_end_there_are_no_pings(talk: BeginTalk, clock: ManualClock) -> None:
    websocket, call = await talk(clock=clock, ws_ping_interval=20, ws_close_timeout=100)
    websocket.answers_close = False
    await call.send({"type": "websocket.close"})
    assert await websocket.receive() == Close(1000)
    clock.advance(99)

    assert websocket.pings == []
    await websocket.send_frame(CLOSE)
    assert await websocket.wait_closed()
    assert not [timed for timed in clock._watched if type(timed).__name__ == "WebSocketExchange"]
