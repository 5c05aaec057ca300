"""What a soak test talks to: an application with an answer for each misbehaviour, which also says what it holds."""

import asyncio
import gc
import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from alphorn.core.asgi import Receive, Scope, Send

PIECE = bytes(16 * 1024)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer by path."""
    if scope["type"] == "websocket":
        await echo_messages(receive, send)
        return
    assert scope["type"] == "http", "it has no lifespan"
    query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
    match scope["path"]:
        case "/holds":
            await answer(send, json.dumps(holdings()).encode())
        case "/echo":
            await echo(receive, send)
        case "/big":
            await big(send, int(query["pieces"]))
        case "/wait":
            while (await receive())["type"] != "http.disconnect":
                pass
        case "/fail":
            return  # without an answer: one line in the log
        case path:
            await answer(send, path.encode() + b"?" + scope["query_string"])


async def answer(send: Send, body: bytes) -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def echo(receive: Receive, send: Send) -> None:
    """Send the content back as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while (message := await receive())["type"] == "http.request":
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})
        if not more:
            return


async def big(send: Send, pieces: int) -> None:
    """Send so many pieces."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(pieces):
        await send({"type": "http.response.body", "body": PIECE, "more_body": True})
    await send({"type": "http.response.body"})


async def echo_messages(receive: Receive, send: Send) -> None:
    """Send messages back; "close" closes, and a number asks for so many pieces."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text == "close":
            await send({"type": "websocket.close"})
            return
        if text is not None and text.isdigit():
            for _ in range(int(text)):
                await send({"type": "websocket.send", "bytes": PIECE})
        else:
            await send({**message, "type": "websocket.send"})


def holdings() -> dict[str, Any]:
    """Say what this process holds now: descriptors, tasks, and the server's own objects by class."""
    gc.collect()
    ours = Counter(
        type(each).__name__ for each in gc.get_objects() if str(type(each).__module__).startswith("alphorn.")
    )
    return {
        "descriptors": len(list(Path("/dev/fd").iterdir())),
        "tasks": len(asyncio.all_tasks()),
        **ours,
    }
