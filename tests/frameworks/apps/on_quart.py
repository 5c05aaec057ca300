"""A Quart application: requests, server-sent events, WebSocket."""

import asyncio
import sys
from collections.abc import AsyncIterator

from quart import Quart, Response, ResponseReturnValue, make_response, request, websocket

app = Quart(__name__)


@app.after_serving
async def ended() -> None:
    print("the application has ended", file=sys.stderr, flush=True)


@app.get("/")
async def home() -> ResponseReturnValue:
    return {"http_version": request.http_version, "scheme": request.scheme}


@app.post("/size")
async def size() -> ResponseReturnValue:
    return {"size": sum([len(part) async for part in request.body])}


@app.get("/events")
async def events() -> Response:
    async def stream() -> AsyncIterator[bytes]:
        for number in range(3):
            yield f"data: {number}\n\n".encode()
            await asyncio.sleep(0)

    response = await make_response(stream(), {"content-type": "text/event-stream"})
    assert isinstance(response, Response)
    response.timeout = None
    return response


@app.websocket("/echo")
async def echo() -> None:
    await websocket.accept(subprotocol="echo")
    while True:
        await websocket.send(await websocket.receive())
