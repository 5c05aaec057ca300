"""The one application that every client visits: over whatever reaches it, it behaves the same."""

import hashlib
from typing import Any
from urllib.parse import parse_qs

from alphorn.core.asgi import Message, Receive, Scope, Send

PART = bytes(64 * 1024)
sent: dict[str, int] = {}
"""How many bytes `send` has taken of each download, by its name."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve one scope."""
    await SCOPES[scope["type"]](scope, receive, send)


async def lifespan(_scope: Scope, receive: Receive, send: Send) -> None:
    """Agree to everything."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def http(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a request."""
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
    match scope["path"]:
        case "/":
            await answer(send, f"hello over {scope['scheme']} with HTTP/{scope['http_version']}")
        case "/digest":
            count, digest = 0, hashlib.sha256()
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                count += len(message["body"])
                digest.update(message["body"])
                more = message["more_body"]
            await answer(send, f"{count} {digest.hexdigest()}")
        case "/download":
            await start(send, content_length=int(query["bytes"]))
            async for part in parts(query):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body"})
        case "/sent":
            await answer(send, str(sent.get(query.get("name", ""), 0)))
        case path:
            await answer(send, f"there is no {path}", status=404)


async def websocket(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve a WebSocket."""
    await receive()
    if scope["path"] not in {"/echo", "/digest", "/download"}:
        await send({"type": "websocket.close"})
        return
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    if scope["path"] == "/download":
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        async for part in parts(query):
            await send({"type": "websocket.send", "bytes": part})
        return
    count, digest = 0, hashlib.sha256()
    while (message := await receive())["type"] == "websocket.receive":
        if scope["path"] == "/echo":
            await send({**message, "type": "websocket.send"})
        elif message.get("bytes") is not None:
            count += len(message["bytes"])
            digest.update(message["bytes"])
        else:
            await send({"type": "websocket.send", "text": f"{count} {digest.hexdigest()}"})


async def parts(query: dict[str, str]) -> Any:
    """Yield a download of `bytes` in parts, and keep count under `name` of what `send` has taken."""
    left, name = int(query["bytes"]), query.get("name", "")
    sent[name] = 0
    while left:
        part = PART[:left]
        yield part
        sent[name] += len(part)
        left -= len(part)


async def answer(send: Send, text: str, status: int = 200) -> None:
    """Send a whole response of one line."""
    body = f"{text}\n".encode()
    await start(send, status, len(body))
    await send({"type": "http.response.body", "body": body})


async def start(send: Send, status: int = 200, content_length: int = 0) -> None:
    """Send the head of a response."""
    head: Message = {"type": "http.response.start", "status": status}
    head["headers"] = [(b"content-length", b"%d" % content_length), (b"content-type", b"text/plain")]
    await send(head)


SCOPES = {"lifespan": lifespan, "http": http, "websocket": websocket}
