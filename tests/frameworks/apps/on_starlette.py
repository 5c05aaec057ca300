"""A Starlette application with a bit of everything."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect


@contextlib.asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[dict[str, asyncio.Event]]:
    """Share an event with all requests."""
    yield {"done": asyncio.Event()}
    print("the application has ended", file=sys.stderr, flush=True)


async def home(request: Request) -> Response:
    return JSONResponse({"http_version": request.scope["http_version"], "scheme": request.url.scheme})


async def echo(request: Request) -> Response:
    """Send the request back while it arrives."""
    return StreamingResponse(request.stream())


async def count(_request: Request) -> Response:
    async def numbers() -> AsyncIterator[str]:
        for number in range(1000):
            yield f"{number}\n"
            await asyncio.sleep(0)

    return StreamingResponse(numbers(), media_type="text/plain")


async def this_file(_request: Request) -> Response:
    return FileResponse(Path(__file__))


async def form(request: Request) -> Response:
    async with request.form() as fields:
        return JSONResponse({name: str(value) for name, value in fields.items()})


async def background(request: Request) -> Response:
    """Answer, then go on working until `/finish` says that it is enough."""
    return PlainTextResponse("accepted", 202, background=BackgroundTask(request.state.done.wait))


async def finish(request: Request) -> Response:
    request.state.done.set()
    return Response(status_code=204)


async def crash(_request: Request) -> Response:
    raise RuntimeError("on purpose")


async def chat(websocket: WebSocket) -> None:
    if "token" not in websocket.query_params:
        await websocket.send_denial_response(
            PlainTextResponse("no token", 401, {"www-authenticate": "Token"})
        )
        return
    await websocket.accept(subprotocol="chat", headers=[(b"set-cookie", b"seen=1")])
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_json({"echo": await websocket.receive_text()})


app = Starlette(
    routes=[
        Route("/", home),
        Route("/echo", echo, methods=["POST"]),
        Route("/count", count),
        Route("/file", this_file),
        Route("/form", form, methods=["POST"]),
        Route("/background", background, methods=["POST"]),
        Route("/finish", finish, methods=["POST"]),
        Route("/crash", crash),
        WebSocketRoute("/chat", chat),
    ],
    middleware=[Middleware(GZipMiddleware)],
    lifespan=lifespan,
)
