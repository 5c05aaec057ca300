"""The application under attack: pages that are quick, slow, endless or deaf, and one that says what is left.

Knows no server: the peers run it as well.
"""

import asyncio
import gc
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass
class Call:
    """What a page gets.

    Attributes:
        receive: Of ASGI.
        send: Of ASGI.
        seconds: How long a slow page shall take.
    """

    receive: Receive
    send: Send
    seconds: float


CHUNK = b"x" * 65536
running: Counter[str] = Counter()
"""Calls under way, by path and query."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Run the page that the path names."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    query = scope["query_string"].decode()
    name = f"{scope['path']}?{query}"
    running[name] += 1
    try:
        pages = WEBSOCKET_PAGES if scope["type"] == "websocket" else HTTP_PAGES
        seconds = parse_qs(query).get("seconds", ["1"])[0]
        await pages[scope["path"]](Call(receive, send, float(seconds)))
    except OSError:
        pass  # the client has gone, which is what attackers do
    finally:
        running[name] -= 1


async def lifespan(receive: Receive, send: Send) -> None:
    """Start and stop when told."""
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return


async def answer(send: Send, body: bytes = b"hello\n") -> None:
    """Send a whole response."""
    fields = [(b"content-length", b"%d" % len(body)), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def small(call: Call) -> None:
    """Answer at once."""
    await answer(call.send)


async def slow(call: Call) -> None:
    """Answer later, without ever looking at what the client sends."""
    await asyncio.sleep(call.seconds)
    await answer(call.send)


async def big(call: Call) -> None:
    """Send as much as the client takes, up to a gibibyte."""
    await call.send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(16 * 1024):
        await call.send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await call.send({"type": "http.response.body"})


async def upload(call: Call) -> None:
    """Read the content as it comes, then say how much it was."""
    size = 0
    while (message := await call.receive())["type"] == "http.request":
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            await answer(call.send, b"%d" % size)
            return


async def calls(call: Call) -> None:
    """Say which calls are under way."""
    await answer(call.send, json.dumps({name: count for name, count in running.items() if count}).encode())


async def state(call: Call) -> None:
    """Say what there is in this process: tasks, calls, and connections, streams and exchanges of Alphorn."""
    gc.collect()
    kinds = (type(thing) for thing in gc.get_objects())
    objects = Counter(
        kind.__name__
        for kind in kinds
        if str(kind.__module__).startswith("alphorn.")  # a few have something else there
        and kind.__name__.endswith(("Arrival", "Connection", "Exchange", "Lingering", "Stream"))
    )
    found = {"tasks": len(asyncio.all_tasks()), "calls": running.total(), **objects}
    await answer(call.send, json.dumps(found).encode())


async def echo(call: Call) -> None:
    """Send every message back."""
    await call.receive()
    await call.send({"type": "websocket.accept"})
    while (message := await call.receive())["type"] == "websocket.receive":
        await call.send(
            {"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")}
        )


async def deaf(call: Call) -> None:
    """Accept, and read nothing for a while."""
    await call.receive()
    await call.send({"type": "websocket.accept"})
    await asyncio.sleep(call.seconds)


async def late(call: Call) -> None:
    """Make the client wait for its handshake."""
    await call.receive()
    await asyncio.sleep(call.seconds)
    await call.send({"type": "websocket.accept"})


async def leave(call: Call) -> None:
    """Accept, and close at once."""
    await call.receive()
    await call.send({"type": "websocket.accept"})
    await call.send({"type": "websocket.close", "code": 1000})


async def pour(call: Call) -> None:
    """Send as much as the client takes, up to a gibibyte."""
    await call.receive()
    await call.send({"type": "websocket.accept"})
    for _ in range(16 * 1024):
        await call.send({"type": "websocket.send", "bytes": CHUNK})


Page = Callable[[Call], Awaitable[None]]

HTTP_PAGES: dict[str, Page] = {
    "/": small,
    "/slow": slow,
    "/big": big,
    "/upload": upload,
    "/calls": calls,
    "/state": state,
}
WEBSOCKET_PAGES: dict[str, Page] = {
    "/echo": echo,
    "/deaf": deaf,
    "/late": late,
    "/leave": leave,
    "/pour": pour,
}
