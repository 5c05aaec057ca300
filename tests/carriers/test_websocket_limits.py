"""What a WebSocket client may do to its server, over every carrier, and what is counted of it."""

import asyncio
import zlib

import pytest

from alphorn.core.errors import Disconnected
from support.carrier import HTTP1_CLEAR, HTTP1_TLS
from support.clock import ManualClock
from support.conversation import settled
from support.http2_client import Http2Client
from support.serving import Connect, Serve
from support.steered_app import Call, SteeredApp
from support.talk import BeginTalk
from support.waiting import stays_pending
from support.websocket_client import Close, frame

over_http1 = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)

CONTINUATION, TEXT, BINARY, PING, PONG = 0, 1, 2, 9, 10
RSV1 = 4


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the log says about limits, but for the client's address."""
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    return [line.partition(": ")[2] for line in lines]


# ------------------------------------------------------------------ sizes


async def test_a_frame_too_big_is_refused_before_any_of_it_is_there(
    talk: BeginTalk, serve: Serve, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    websocket, call = await talk(ws_max_frame=1000, ws_close_timeout=10, clock=clock)
    receiving = asyncio.ensure_future(call.receive())
    head_alone = frame(BINARY, bytes(1 << 16))[:14]
    await websocket.send_raw(head_alone)

    assert await websocket.receive() == Close(1009, "a frame has at most 1000 bytes")
    clock.advance(10)  # its answer stands where the rest of the frame was to come
    assert (await receiving)["type"] == "websocket.disconnect"
    assert serve.servers[0].limits_hit == {"ws_max_frame": 1, "ws_close_timeout": 1}
    assert warnings_of(caplog) == [
        "a frame has at most 1000 bytes, and this WebSocket client sent more (--ws-max-frame)"
    ]


async def test_who_has_sent_a_frame_too_big_can_still_close_properly(talk: BeginTalk, serve: Serve) -> None:
    websocket, call = await talk(ws_max_frame=1000)
    receiving = asyncio.ensure_future(call.receive())
    await websocket.send("x" * 1001)

    assert await websocket.receive() == Close(1009, "a frame has at most 1000 bytes")
    assert await receiving == {
        "type": "websocket.disconnect",
        "code": 1009,
        "reason": "a frame has at most 1000 bytes",
    }
    assert await websocket.wait_closed()
    assert serve.servers[0].limits_hit == {"ws_max_frame": 1}


async def test_a_message_of_frames_as_large_as_allowed_is_delivered(talk: BeginTalk, serve: Serve) -> None:
    websocket, call = await talk(ws_max_frame=1000)
    await websocket.send_frame(BINARY, bytes(1000), fin=False)
    await websocket.send_frame(CONTINUATION, bytes(1000))

    assert (await call.receive())["bytes"] == bytes(2000)
    assert serve.servers[0].limits_hit == {}


@pytest.mark.parametrize("attack", ["message", "fragments", "bomb"])
async def test_a_message_too_big_is_counted_and_named_once(
    talk: BeginTalk, serve: Serve, caplog: pytest.LogCaptureFixture, attack: str
) -> None:
    websocket, call = await talk(deflate=True, ws_max_message=64 * 1024)
    receiving = asyncio.ensure_future(call.receive())
    if attack == "message":
        await websocket.send_frame(BINARY, bytes(64 * 1024 + 1))
    elif attack == "fragments":
        for number in range(3):
            await websocket.send_frame(CONTINUATION if number else BINARY, bytes(32 * 1024), fin=False)
    else:
        compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
        bomb = compressor.compress(bytes(16 * 1024 * 1024)) + compressor.flush(zlib.Z_SYNC_FLUSH)
        await websocket.send_frame(BINARY, bomb[:-4], rsv=RSV1)

    assert await websocket.receive() == Close(1009, "a message has at most 65536 bytes")
    assert (await receiving)["type"] == "websocket.disconnect"
    assert serve.servers[0].limits_hit == {"ws_max_message": 1}
    assert warnings_of(caplog) == [
        "a message has at most 65536 bytes, and this WebSocket client sent more (--ws-max-message)"
    ]


# ------------------------------------------------------------------ floods

FLOODS = {
    "pings": frame(PING),
    "long pings": frame(PING, bytes(125)),
    "pongs": frame(PONG),
    "empty fragments": frame(CONTINUATION, fin=False),
    "tiny fragments": frame(CONTINUATION, b"tiny", fin=False),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_a_flood_of_what_is_no_message_is_closed_with_1008(
    talk: BeginTalk, serve: Serve, caplog: pytest.LogCaptureFixture, flood: bytes
) -> None:
    """With the settings as they are by default."""
    websocket, call = await talk()
    websocket.answers_pings = False
    receiving = asyncio.ensure_future(call.receive())
    await websocket.send_frame(TEXT, fin=False)
    await websocket.send_raw(flood * 1100)

    reason = "too many control frames or empty fragments"
    assert await websocket.receive() == Close(1008, reason)
    assert await receiving == {"type": "websocket.disconnect", "code": 1006, "reason": reason}
    assert serve.servers[0].limits_hit == {"max_control_frames": 1}
    assert warnings_of(caplog) == [f"{reason} in a WebSocket, which was closed (--max-control-frames)"]


async def test_who_floods_one_websocket_leaves_the_neighbours_alone(
    talk: BeginTalk, serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    """On HTTP/2 they share a connection."""
    client = await connect(await serve(app))
    flooding, _ = await talk.on(client)
    flooding.answers_close = False
    together = isinstance(client, Http2Client)
    neighbour, call = await talk.on(client if together else await connect(serve.servers[0].urls[0]))
    await flooding.send_raw(frame(PONG) * 1100)
    await neighbour.send("still there?")
    await call.send({"type": "websocket.send", "text": (await call.receive())["text"]})

    assert await neighbour.receive() == "still there?"
    assert (await flooding.receive()) == Close(1008, "too many control frames or empty fragments")


async def test_a_client_that_pings_every_second_may_do_so_for_ever(
    talk: BeginTalk, serve: Serve, clock: ManualClock
) -> None:
    websocket, call = await talk(clock=clock, max_control_frames=20)
    for _ in range(100):
        await websocket.ping(b"still there?")
        clock.advance(1)
    await websocket.send("yes")

    assert (await call.receive())["text"] == "yes"
    assert serve.servers[0].limits_hit == {}


async def test_a_message_may_come_in_any_number_of_fragments_that_carry_something(
    talk: BeginTalk, serve: Serve
) -> None:
    websocket, call = await talk(max_control_frames=20)
    await websocket.send_frame(BINARY, bytes(64), fin=False)
    await websocket.send_raw(frame(CONTINUATION, bytes(64), fin=False) * 2000 + frame(CONTINUATION))

    assert (await call.receive())["bytes"] == bytes(64 * 2001)
    assert serve.servers[0].limits_hit == {}


# ------------------------------------------------------------------ silence


async def test_a_client_that_answers_no_ping_is_counted(
    talk: BeginTalk, serve: Serve, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a line in the log: it is far more often a client that has lost its network than an attack."""
    websocket, call = await talk(clock=clock, ws_ping_interval=20, ws_ping_timeout=10)
    websocket.answers_pings = False
    clock.advance(30)

    assert await websocket.receive() == Close(1011, "ping timeout")
    assert (await call.receive())["reason"] == "ping timeout"
    assert serve.servers[0].limits_hit == {"ws_ping_timeout": 1}
    assert warnings_of(caplog) == []


async def test_a_client_that_answers_no_close_frame_is_counted(
    talk: BeginTalk, serve: Serve, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    websocket, call = await talk(clock=clock, ws_close_timeout=10)
    websocket.answers_close = False
    await call.send({"type": "websocket.close"})
    assert await websocket.receive() == Close(1000)
    clock.advance(10)

    assert await websocket.wait_closed()
    assert serve.servers[0].limits_hit == {"ws_close_timeout": 1}
    assert warnings_of(caplog) == []


@over_http1
async def test_a_client_that_reads_nothing_is_given_up_and_its_application_told(
    talk: BeginTalk, clock: ManualClock
) -> None:
    websocket, call = await talk(clock=clock, receive_window=16 * 1024, write_timeout=30, ws_ping_interval=0)
    sending = asyncio.ensure_future(send_for_ever(call))
    await settled(lambda: 0)
    assert await stays_pending(sending)
    clock.advance(29)
    assert await stays_pending(sending, 0.02)
    clock.advance(31)  # what the kernel took just before counts as read

    with pytest.raises(Disconnected):
        await sending
    assert (await call.receive())["code"] == 1006
    assert websocket.closed is None


async def send_for_ever(call: Call) -> None:
    while True:
        await call.send({"type": "websocket.send", "bytes": bytes(64 * 1024)})
