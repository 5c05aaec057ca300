"""A FastAPI application: validation, dependencies, background tasks, streams, files, WebSocket."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, Request, UploadFile, WebSocket, WebSocketDisconnect
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel

noted: list[str] = []
news = asyncio.Condition()


async def note(text: str) -> None:
    """Note something, and wake those who wait for it."""
    async with news:
        noted.append(text)
        news.notify_all()


@contextlib.asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Share a state with all requests."""
    yield {"greeting": "Grüezi"}
    print("the application has ended", file=sys.stderr, flush=True)


app = FastAPI(lifespan=lifespan)


class Item(BaseModel):
    """What a client may send."""

    name: str
    price: float


async def session() -> AsyncIterator[list[str]]:
    """Open something for the time of a request."""
    log = ["opened"]
    yield log
    await note("session closed")


@app.get("/")
async def home(request: Request) -> dict[str, str]:
    return {"greeting": request.state.greeting, "http_version": request.scope["http_version"]}


@app.post("/items")
async def create(item: Item, log: Annotated[list[str], Depends(session)]) -> dict[str, Any]:
    return {"item": item.model_dump(), "session": log}


@app.get("/threaded/{number}")
def threaded(number: int) -> int:
    return number * 2


@app.post("/upload")
async def upload(file: UploadFile) -> dict[str, Any]:
    return {"name": file.filename, "size": len(await file.read())}


@app.post("/notes/{text}", status_code=202)
async def take_note(text: str, tasks: BackgroundTasks) -> None:
    tasks.add_task(note, text)


@app.get("/notes/{text}")
async def wait_for_note(text: str) -> list[str]:
    async with news:
        await news.wait_for(lambda: text in noted)
    return noted


@app.get("/events")
async def events() -> StreamingResponse:
    async def stream() -> AsyncIterator[str]:
        for number in range(3):
            yield f"data: {number}\n\n"
            await asyncio.sleep(0)

    return StreamingResponse(stream(), media_type="text/event-stream")


@app.get("/file")
async def this_file() -> FileResponse:
    return FileResponse(Path(__file__))


@app.websocket("/rooms/{room}")
async def rooms(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(f"{room}: {await websocket.receive_text()}")
