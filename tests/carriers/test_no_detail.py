"""What a client is told about its own faults is about them, and says nothing of what we are made of."""

import re
from typing import Final

import pytest

from alphorn.core.asgi import Receive, Scope, Send
from support.carrier import HTTP1_CLEAR, HTTP2_CLEAR
from support.frames import (
    ANY,
    Continuation,
    Data,
    Frame,
    Goaway,
    Headers,
    Ping,
    PushPromise,
    Raw,
    RstStream,
    WindowUpdate,
)
from support.serving import Connect, Serve
from support.steered_app import accept_lifespan
from support.websocket_client import Close, frame

INNARDS: Final = re.compile(
    r"(?!WebSocket)\b\w*[a-z][A-Z]|h2|h11|hpack|hyperframe|wsproto|asyncio|uvloop|ython|xception|codec|\.py|\n"
)
REQUEST: Final = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")]
HEAD: Final = Headers(1, REQUEST, end_stream=True)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await accept_lifespan(receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            pass
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


FAULTS: Final[dict[str, list[Frame]]] = {
    "DATA on stream 0": [Data(0, b"x")],
    "DATA on an idle stream": [Data(1, b"x")],
    "a stream of ours": [Headers(2, REQUEST)],
    "a stream too low": [Headers(3, REQUEST, end_stream=True), HEAD],
    "an increment of 0": [WindowUpdate(0, 0)],
    "a window too large": [WindowUpdate(0, 2**31 - 1)],
    "SETTINGS cut off": [Raw(0x4, 0, 0, b"abc")],
    "SETTINGS acknowledged with content": [Raw(0x4, 1, 0, b"abcdef")],
    "SETTINGS on a stream": [Raw(0x4, 0, 1, b"")],
    "a setting out of range": [Raw(0x4, 0, 0, b"\0\2\0\0\0\5")],
    "PING too short": [Raw(0x6, 0, 0, b"a")],
    "PING on a stream": [Raw(0x6, 0, 1, bytes(8))],
    "RST_STREAM on an idle stream": [RstStream(1, 0)],
    "RST_STREAM on stream 0": [RstStream(0, 0)],
    "a field block of nonsense": [Raw(0x1, 0x4, 1, b"\xff\xff\xff")],
    "a field that is in no table": [Raw(0x1, 0x4, 1, b"\x80")],
    "padding beyond the end": [Raw(0x1, 0xC, 1, b"\xff\xff\xff")],
    "a frame within a field block": [Raw(0x1, 0, 1, b"a"), Ping()],
    "CONTINUATION of nothing": [Continuation(1, b"a", end_headers=True)],
    "PUSH_PROMISE": [PushPromise(1, 2, REQUEST)],
    "GOAWAY too short": [Raw(0x7, 0, 0, b"a")],
    "a frame too large": [Raw(0x0, 0, 1, bytes(20_000))],
    "no frame": [Raw(0x16, 3, 3, bytes(16_385))],
}


@pytest.mark.parametrize("carrier", [HTTP2_CLEAR], ids=str)
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_goaway_says_what_was_wrong_or_nothing(
    serve: Serve, connect: Connect, fault: list[Frame]
) -> None:
    peer = await connect.frames(await serve(app))
    peer.skips = (*peer.skips, Headers, Data, RstStream)
    await peer.sends(*fault)
    goaway = await peer.expects(Goaway(ANY, ANY))

    assert goaway.code != 0
    assert not INNARDS.search(goaway.debug.decode("ascii"))


BROKEN: Final = {
    "opcode": frame(3),
    "not UTF-8": frame(1, b"\xff"),
    "reason not UTF-8": frame(8, b"\x03\xe8\xff"),
    "close with half a code": frame(8, b"\x03"),
    "close with a code that is none": frame(8, b"\0\1"),
    "not masked": frame(1, masked=False),
    "reserved bit": frame(1, rsv=1),
    "ping too long": frame(9, bytes(126)),
    "ping in fragments": frame(9, fin=False),
    "continuation of nothing": frame(0),
    "message within a message": frame(1, fin=False) + frame(1),
    "nothing that inflates": frame(2, b"\xff\xff\xff", rsv=4),
}


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_a_close_frame_says_what_was_wrong(serve: Serve, connect: Connect, broken: bytes) -> None:
    websocket = await connect.websocket(await serve(app), deflate=True)
    await websocket.send_raw(broken)
    closed = await websocket.receive()

    assert isinstance(closed, Close)
    assert closed.code in (1002, 1007)
    assert closed.reason
    assert not INNARDS.search(closed.reason)


REFUSED: Final = {
    "garbage": b"\0\1\2\3\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "version": b"GET / HTTP/3.0\r\nhost: a\r\n\r\n",
    "field name": b"GET / HTTP/1.1\r\nhost: a\r\nb\xff: c\r\n\r\n",
    "field value": b"GET / HTTP/1.1\r\nhost: a\r\nb: \x1b\r\n\r\n",
    "length": b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n",
    "coding": b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: x\r\n\r\n",
    "method": b"get / HTTP/1.1\r\nhost: a\r\n\r\n",
    "target": b"GET \xff HTTP/1.1\r\nhost: a\r\n\r\n",
    "expectation": b"POST / HTTP/1.1\r\nhost: a\r\nexpect: x\r\ncontent-length: 1\r\n\r\n",
    "too many fields": b"GET / HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 200 + b"\r\n",
    "WebSocket version": b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
async def test_a_refusal_says_what_was_wrong(serve: Serve, connect: Connect, refused: bytes) -> None:
    client = await connect.http1(await serve(app))
    response = await (await client.request_raw(refused)).response()

    assert 400 <= response.status < 600
    text = response.body.decode("ascii")
    assert re.fullmatch(rf"{response.status} [A-Za-z \-]+: .{{5,200}}\n", text)
    assert not INNARDS.search(text.rstrip("\n"))
    assert response.field("server") == b"alphorn"
