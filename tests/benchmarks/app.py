"""The application that every server of the benchmark runs: bare ASGI, as little work as there can be.

It imports nothing of Alphorn, for it runs in the peers' environment as well.
"""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

HELLO = b"Hello, world!"
CHUNK = bytes(1024)
PART = bytes(64 * 1024)
BULK_BYTES = 10 * 1024 * 1024
numbers = itertools.count()


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Serve one scope."""
    if scope["type"] == "http":
        await PATHS.get(scope["path"], realistic)(scope, receive, send)
    elif scope["type"] == "websocket":
        await echo_messages(receive, send)
    else:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def hello(_scope: Message, _receive: Receive, send: Send) -> None:
    """Answer 13 bytes under two fields."""
    await answer(send, HELLO)


async def realistic(scope: Message, _receive: Receive, send: Send) -> None:
    """Answer about 80 bytes of JSON under seven fields, four of them new each time."""
    number = next(numbers)
    request_id = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    body = b'{"id": %d, "name": "alpine horn of red spruce, in three parts", "price": "%d.00"}' % (
        number,
        number % 4999,
    )
    head = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"private, max-age=0, must-revalidate"),
        (b"vary", b"accept-encoding, cookie"),
        (b"etag", b'"%x"' % (number * 2654435761)),
        (b"x-request-id", request_id),
        (b"set-cookie", b"seen=%d; path=/; httponly; samesite=lax" % number),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def echo(_scope: Message, receive: Receive, send: Send) -> None:
    """Answer what the client sent."""
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    await answer(send, b"".join(parts))


async def swallow(_scope: Message, receive: Receive, send: Send) -> None:
    """Read all that the client sends and answer how much it was."""
    count = 0
    more = True
    while more:
        message = await receive()
        count += len(message.get("body", b""))
        more = message.get("more_body", False)
    await answer(send, b"%d" % count)


async def stream(_scope: Message, _receive: Receive, send: Send) -> None:
    """Answer 100 chunks of 1 KiB, whose sum nobody knows beforehand."""
    head = [(b"content-type", b"application/octet-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    for _ in range(100):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def bulk(_scope: Message, _receive: Receive, send: Send) -> None:
    """Answer 10 MiB in parts of 64 KiB."""
    head = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % BULK_BYTES)]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    for _ in range(BULK_BYTES // len(PART)):
        await send({"type": "http.response.body", "body": PART, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def echo_messages(receive: Receive, send: Send) -> None:
    """Accept, then send back what comes."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message["bytes"]})


async def answer(send: Send, body: bytes) -> None:
    """Send a whole response."""
    head = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


PATHS = {"/": hello, "/echo": echo, "/swallow": swallow, "/stream": stream, "/bulk": bulk}
