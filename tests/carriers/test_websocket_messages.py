"""The messages of a WebSocket: whole, in order, of either kind, compressed or not, within a bound."""

import asyncio
import zlib

import pytest

from alphorn.core.errors import UnexpectedMessage
from support.carrier import HTTP1_CLEAR, HTTP2_CLEAR
from support.clock import ManualClock
from support.conversation import complaints, settled
from support.talk import BeginTalk
from support.waiting import stays_pending
from support.websocket_client import Close

# Each of many cases once over each version of HTTP; TLS carries the same bytes.
in_the_clear = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)

CONTINUATION, TEXT, BINARY, CLOSE, PING = 0, 1, 2, 8, 9
RSV1 = 4  # a compressed message (RFC 7692, 6)


async def test_text_arrives_as_text_and_bytes_as_bytes(talk: BeginTalk) -> None:
    websocket, call = await talk()
    await websocket.send("grüße 🎺")
    await websocket.send(b"\x00\xff")

    assert await call.receive() == {"type": "websocket.receive", "text": "grüße 🎺"}
    received = await call.receive()
    assert received == {"type": "websocket.receive", "bytes": b"\x00\xff"}
    assert type(received["bytes"]) is bytes


async def test_text_leaves_as_text_and_bytes_as_bytes(talk: BeginTalk) -> None:
    websocket, call = await talk()
    await call.send({"type": "websocket.send", "text": "grüße 🎺"})
    await call.send({"type": "websocket.send", "bytes": b"\x00\xff", "text": None})
    await call.send({"type": "websocket.send", "bytes": None, "text": "b", "unknown": 1})

    assert [await websocket.receive() for _ in range(3)] == ["grüße 🎺", b"\x00\xff", "b"]


async def test_empty_messages_are_messages_too(talk: BeginTalk) -> None:
    websocket, call = await talk()
    await websocket.send("")
    await websocket.send(b"")
    await call.send({"type": "websocket.send", "text": ""})
    await call.send({"type": "websocket.send", "bytes": b""})

    assert await call.receive() == {"type": "websocket.receive", "text": ""}
    assert await call.receive() == {"type": "websocket.receive", "bytes": b""}
    assert [await websocket.receive(), await websocket.receive()] == ["", b""]


@in_the_clear
@pytest.mark.parametrize("size", [125, 126, 65535, 65536, 1024 * 1024])
@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
async def test_a_message_of_any_size_goes_there_and_back(talk: BeginTalk, size: int, deflate: bool) -> None:
    """The sizes are those at which the frame header grows (RFC 6455, 5.2)."""
    websocket, call = await talk(deflate=deflate)
    message = bytes(index * index % 251 for index in range(size))
    await websocket.send(message)
    received = (await call.receive())["bytes"]
    sending = asyncio.ensure_future(call.send({"type": "websocket.send", "bytes": received}))

    assert await websocket.receive() == message
    await sending


@in_the_clear
@pytest.mark.parametrize(
    "message",
    [
        {},
        {"text": None, "bytes": None},
        {"text": "a", "bytes": b"a"},
        {"text": b"a"},
        {"bytes": "a"},
        {"bytes": 1},
        {"text": "\ud800"},
    ],
    ids=repr,
)
async def test_a_malformed_message_is_refused_and_the_conversation_goes_on(
    talk: BeginTalk, message: dict[str, object]
) -> None:
    websocket, call = await talk()

    with pytest.raises(UnexpectedMessage):
        await call.send({"type": "websocket.send", **message})
    await call.send({"type": "websocket.send", "text": "well formed"})

    assert await websocket.receive() == "well formed"


async def test_any_kind_of_bytes_may_be_sent(talk: BeginTalk) -> None:
    websocket, call = await talk()
    await call.send({"type": "websocket.send", "bytes": bytearray(b"array")})
    await call.send({"type": "websocket.send", "bytes": memoryview(b"view")})

    assert [await websocket.receive(), await websocket.receive()] == [b"array", b"view"]


async def test_fragments_arrive_as_one_message_whatever_comes_between(talk: BeginTalk) -> None:
    """RFC 6455, 5.4: control frames may stand between the fragments of a message."""
    websocket, call = await talk()
    text = "grüße".encode()
    await websocket.send_frame(TEXT, text[:3], fin=False)  # in the middle of a character
    await websocket.send_frame(PING, b"between")
    await websocket.send_frame(CONTINUATION, b"", fin=False)
    await websocket.send_frame(CONTINUATION, text[3:])
    await websocket.send_frame(BINARY, b"\x01", fin=False)
    await websocket.send_frame(CONTINUATION, b"")

    assert await call.receive() == {"type": "websocket.receive", "text": "grüße"}
    assert await call.receive() == {"type": "websocket.receive", "bytes": b"\x01"}
    await call.send({"type": "websocket.send", "text": "thanks"})
    assert await websocket.receive() == "thanks"
    assert websocket.pongs == [b"between"]


async def test_a_message_is_not_delivered_before_it_is_whole(talk: BeginTalk) -> None:
    websocket, call = await talk()
    receiving = asyncio.ensure_future(call.receive())
    await websocket.send_frame(TEXT, b"half of ", fin=False)
    await websocket.ping()
    assert await stays_pending(receiving, 0.02)
    await websocket.send_frame(CONTINUATION, b"a message")

    assert (await receiving)["text"] == "half of a message"


# ------------------------------------------------------------------ permessage-deflate


async def test_compression_is_agreed_to_when_offered(talk: BeginTalk) -> None:
    websocket, call = await talk(deflate=True)
    assert websocket.deflate

    for _ in range(2):  # the second message builds on the first
        await websocket.send("tick " * 1000)
        message = (await call.receive())["text"]
        await call.send({"type": "websocket.send", "text": message})
        assert message == "tick " * 1000
        assert await websocket.receive() == message


async def test_compressed_messages_are_small_on_the_wire(talk: BeginTalk) -> None:
    websocket, call = await talk(deflate=True)
    await call.send({"type": "websocket.send", "bytes": bytes(100_000)})
    frame = await websocket.exchange.read_chunk()

    assert frame[0] == 0xC2  # FIN, RSV1, binary
    assert len(frame) < 1000


async def test_compression_is_not_agreed_to_when_it_is_switched_off(talk: BeginTalk) -> None:
    websocket, call = await talk(deflate=True, ws_deflate=False)
    assert not websocket.deflate

    await websocket.send("plain")
    assert (await call.receive())["text"] == "plain"


async def test_compression_is_not_imposed(talk: BeginTalk) -> None:
    websocket, _ = await talk()

    assert not websocket.deflate


# ------------------------------------------------------------------ the bound


async def test_a_message_as_large_as_allowed_is_delivered(talk: BeginTalk) -> None:
    websocket, call = await talk(ws_max_message=1000)
    await websocket.send("é" * 500)
    await websocket.send(bytes(1000))

    assert (await call.receive())["text"] == "é" * 500
    assert (await call.receive())["bytes"] == bytes(1000)


@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
@pytest.mark.parametrize("message", ["é" * 501, b"x" * 1001, b"x" * 5_000_000], ids=["text", "bytes", "huge"])
async def test_a_larger_message_is_refused_with_1009(
    talk: BeginTalk, deflate: bool, message: str | bytes
) -> None:
    websocket, call = await talk(deflate=deflate, ws_max_message=1000)
    receiving = asyncio.ensure_future(call.receive())
    await websocket.send(message)

    closed = await websocket.receive()
    assert closed == Close(1009, "a message has at most 1000 bytes")
    assert (await receiving)["type"] == "websocket.disconnect"
    assert (await receiving)["code"] == 1009
    with pytest.raises(OSError, match="gone"):
        await call.send({"type": "websocket.send", "text": "too late"})
    assert await websocket.wait_closed()


async def test_fragments_count_together(talk: BeginTalk) -> None:
    websocket, call = await talk(ws_max_message=1000)
    receiving = asyncio.ensure_future(call.receive())
    await websocket.send_frame(TEXT, b"x" * 600, fin=False)
    await websocket.send_frame(CONTINUATION, b"x" * 401, fin=False)

    assert await websocket.receive() == Close(1009, "a message has at most 1000 bytes")
    assert (await receiving)["type"] == "websocket.disconnect"


async def test_a_small_frame_that_inflates_too_far_is_refused_while_it_does(talk: BeginTalk) -> None:
    """A zip bomb: 32 MiB in 32 KiB. The bound holds while it inflates, not afterwards (RFC 7692, 8)."""
    websocket, call = await talk(deflate=True, ws_max_message=64 * 1024)
    receiving = asyncio.ensure_future(call.receive())
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    mebibyte = bytes(1024 * 1024)
    bomb = b"".join(compressor.compress(mebibyte) for _ in range(32)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    await websocket.send_frame(BINARY, bomb[:-4], rsv=RSV1)

    assert await websocket.receive() == Close(1009, "a message has at most 65536 bytes")
    assert (await receiving)["type"] == "websocket.disconnect"


async def test_messages_before_one_that_is_too_big_are_answered_first(talk: BeginTalk) -> None:
    websocket, call = await talk(ws_max_message=1000)
    await websocket.send("fine")
    await websocket.send("x" * 1001)
    await websocket.send("behind it")

    await call.send({"type": "websocket.send", "text": "got " + (await call.receive())["text"]})
    receiving = asyncio.ensure_future(call.receive())

    assert await websocket.receive() == "got fine"
    assert await websocket.receive() == Close(1009, "a message has at most 1000 bytes")
    assert (await receiving)["code"] == 1009


# ------------------------------------------------------------------ what breaks the protocol


@in_the_clear
@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"opcode": TEXT, "payload": b"unmasked", "masked": False}, 1002),
        ({"opcode": 3}, 1002),
        ({"opcode": TEXT, "rsv": RSV1}, 1002),
        ({"opcode": CONTINUATION, "payload": b"of nothing"}, 1002),
        ({"opcode": PING, "fin": False}, 1002),
        ({"opcode": PING, "payload": bytes(126)}, 1002),
        ({"opcode": CLOSE, "payload": b"\x03"}, 1002),
        ({"opcode": CLOSE, "payload": b"\x03\xed"}, 1002),  # 1005 is for nobody to send
        ({"opcode": CLOSE, "payload": b"\x03\xe8\xff"}, 1007),
        ({"opcode": TEXT, "payload": b"\xff"}, 1007),
    ],
    ids=repr,
)
async def test_a_client_that_breaks_the_protocol_is_told_and_left(
    talk: BeginTalk, caplog: pytest.LogCaptureFixture, frame: dict[str, object], code: int
) -> None:
    websocket, call = await talk()
    receiving = asyncio.ensure_future(call.receive())
    await websocket.send_frame(**frame)  # type: ignore[arg-type]
    disconnect = await receiving

    closed = await websocket.receive()
    assert isinstance(closed, Close)
    assert closed.code == code
    assert await websocket.wait_closed()
    assert disconnect["type"] == "websocket.disconnect"
    assert disconnect["code"] == 1006  # the client sent no close frame, or none that is one
    assert disconnect["reason"] == closed.reason != ""
    assert complaints(caplog) == []  # a peer's fault is not ours


async def test_text_that_is_not_utf_8_is_refused_before_it_is_whole(talk: BeginTalk) -> None:
    """RFC 6455, 8.1 allows to wait; a client that is told at once is easier to mend."""
    websocket, call = await talk()
    receiving = asyncio.ensure_future(call.receive())
    await websocket.send_raw(b"\x81\xfe\x10\x00" + bytes(4) + b"so far so good \xc0")

    assert await websocket.receive() == Close(1007, (await receiving)["reason"])


async def test_a_compressed_message_that_is_not_one_is_refused(talk: BeginTalk) -> None:
    websocket, call = await talk(deflate=True)
    receiving = asyncio.ensure_future(call.receive())
    await websocket.send_frame(TEXT, b"\x07\x07 no deflate", rsv=RSV1)

    assert await websocket.receive() == Close(1007, (await receiving)["reason"])


async def test_what_came_before_a_fault_is_answered_first(talk: BeginTalk) -> None:
    websocket, call = await talk()
    await websocket.send_raw(b"\x81\x82\0\0\0\0ok" + b"\x83\x80\0\0\0\0")

    await call.send({"type": "websocket.send", "text": (await call.receive())["text"]})
    receiving = asyncio.ensure_future(call.receive())

    assert await websocket.receive() == "ok"
    closed = await websocket.receive()
    assert isinstance(closed, Close)
    assert closed.code == 1002
    assert (await receiving)["type"] == "websocket.disconnect"


async def test_an_application_that_does_not_receive_is_not_waited_for_long(
    talk: BeginTalk, clock: ManualClock
) -> None:
    websocket, call = await talk(clock=clock, ws_close_timeout=10, ws_ping_interval=0)
    await websocket.send_raw(b"\x83\x80\0\0\0\0")
    await settled(lambda: 0)
    clock.advance(9)
    await call.send({"type": "websocket.send", "text": "still busy"})
    clock.advance(1)

    assert await websocket.receive() == "still busy"
    closed = await websocket.receive()
    assert isinstance(closed, Close)
    assert closed.code == 1002


async def test_an_application_that_returns_leaves_the_fault_as_the_reason(talk: BeginTalk) -> None:
    websocket, call = await talk()
    await websocket.send_raw(b"\x83\x80\0\0\0\0")
    await settled(lambda: 0)
    call.finish()

    closed = await websocket.receive()
    assert isinstance(closed, Close)
    assert closed.code == 1002
