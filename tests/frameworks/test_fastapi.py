"""FastAPI."""

import httpx
from websockets.asyncio.client import connect

from support.certificates import authority
from support.process import ServerProcess

APP = "on_fastapi:app"


async def test_routes_and_the_state_of_the_lifespan(visitor: httpx.AsyncClient) -> None:
    response = await visitor.get("/")
    assert response.json() == {
        "greeting": "Grüezi",
        "http_version": response.http_version.removeprefix("HTTP/"),
    }
    assert (await visitor.get("/threaded/21")).json() == 42
    assert (await visitor.get("/openapi.json")).json()["info"]["title"] == "FastAPI"


async def test_validation_and_dependencies(visitor: httpx.AsyncClient) -> None:
    item = {"name": "horn", "price": 1.5}
    assert (await visitor.post("/items", json=item)).json() == {"item": item, "session": ["opened"]}
    assert (await visitor.post("/items", json={"name": "horn"})).status_code == 422
    assert "session closed" in (await visitor.get("/notes/session closed")).json()


async def test_an_upload(visitor: httpx.AsyncClient) -> None:
    response = await visitor.post("/upload", files={"file": ("big.bin", bytes(2_000_000))})
    assert response.json() == {"name": "big.bin", "size": 2_000_000}


async def test_background_tasks(visitor: httpx.AsyncClient) -> None:
    assert (await visitor.post("/notes/milk")).status_code == 202
    assert "milk" in (await visitor.get("/notes/milk")).json()


async def test_streams_and_files(visitor: httpx.AsyncClient) -> None:
    response = await visitor.get("/events")
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text == "data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert (await visitor.get("/file")).text.startswith('"""A FastAPI application')


async def test_a_websocket(server: ServerProcess) -> None:
    url = server.url.replace("https", "wss") + "/rooms/alp"
    async with connect(url, ssl=authority().client_context(), proxy=None) as websocket:
        await websocket.send("hello")
        assert await websocket.recv() == "alp: hello"
