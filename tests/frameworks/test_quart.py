"""Quart."""

import httpx
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from support.certificates import authority
from support.process import ServerProcess

APP = "on_quart:app"


async def test_requests(visitor: httpx.AsyncClient) -> None:
    response = await visitor.get("/")
    assert response.json() == {"http_version": response.http_version.removeprefix("HTTP/"), "scheme": "https"}
    assert (await visitor.post("/size", content=bytes(1_000_000))).json() == {"size": 1_000_000}
    assert (await visitor.get("/nowhere")).status_code == 404


async def test_server_sent_events(visitor: httpx.AsyncClient) -> None:
    async with visitor.stream("GET", "/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert [line async for line in response.aiter_lines() if line] == ["data: 0", "data: 1", "data: 2"]


async def test_a_websocket(server: ServerProcess) -> None:
    url = server.url.replace("https", "wss") + "/echo"
    async with connect(
        url, ssl=authority().client_context(), subprotocols=[Subprotocol("echo")], proxy=None
    ) as websocket:
        assert websocket.subprotocol == "echo"
        for message in ("hello", b"\x00\x01"):
            await websocket.send(message)
            assert await websocket.recv() == message
