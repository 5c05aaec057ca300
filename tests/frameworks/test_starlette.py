"""Starlette."""

import asyncio
import json

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from support.certificates import authority
from support.http_client import connect_http2
from support.process import ServerProcess
from support.websocket_client import Offer, open_websocket

APP = "on_starlette:app"


async def test_requests(visitor: httpx.AsyncClient) -> None:
    response = await visitor.get("/")
    assert response.json() == {"http_version": response.http_version.removeprefix("HTTP/"), "scheme": "https"}
    assert (await visitor.get("/nowhere")).status_code == 404
    assert (await visitor.get("/echo")).status_code == 405


async def test_a_body_is_sent_back_while_it_arrives(visitor: httpx.AsyncClient) -> None:
    content = b"alphorn" * 200_000
    assert (await visitor.post("/echo", content=content)).content == content


async def test_streams_and_files(visitor: httpx.AsyncClient) -> None:
    assert (await visitor.get("/count")).text == "".join(f"{number}\n" for number in range(1000))
    whole = await visitor.get("/file", headers={"accept-encoding": "identity"})
    assert whole.text.startswith('"""A Starlette application')
    assert whole.headers["content-length"] == str(len(whole.content))
    part = await visitor.get("/file", headers={"range": "bytes=3-13", "accept-encoding": "identity"})
    assert (part.status_code, part.content) == (206, whole.content[3:14])
    unchanged = await visitor.head("/file")
    assert (unchanged.status_code, unchanged.content) == (200, b"")


async def test_forms(visitor: httpx.AsyncClient) -> None:
    response = await visitor.post("/form", data={"name": "Grüezi"}, files={"file": b"x" * 100_000})
    assert response.json()["name"] == "Grüezi"


async def test_a_background_task_does_not_hold_the_connection(visitor: httpx.AsyncClient) -> None:
    assert (await visitor.post("/background")).status_code == 202
    # With HTTP/1.1 this is the same connection, and only this ends the task.
    assert (await asyncio.wait_for(visitor.post("/finish"), 5)).status_code == 204


async def test_a_crash_is_a_500(visitor: httpx.AsyncClient) -> None:
    assert (await visitor.get("/crash")).status_code == 500
    assert (await visitor.get("/")).status_code == 200


async def test_a_websocket(server: ServerProcess) -> None:
    url = server.url.replace("https", "wss") + "/chat?token=1"
    async with connect(
        url, ssl=authority().client_context(), subprotocols=[Subprotocol("chat")], proxy=None
    ) as websocket:
        assert websocket.response is not None
        assert websocket.response.headers["set-cookie"] == "seen=1"
        await websocket.send("hello")
        assert json.loads(await websocket.recv()) == {"echo": "hello"}


async def test_a_websocket_over_http2(server: ServerProcess) -> None:
    client = await connect_http2(server.url, tls=authority().client_context())
    websocket = await open_websocket(client, "/chat?token=1", Offer(["chat"]))
    await websocket.send("hello")
    assert json.loads(str(await websocket.receive())) == {"echo": "hello"}
    client.close()


async def test_a_handshake_is_denied_with_a_response(server: ServerProcess) -> None:
    url = server.url.replace("https", "wss") + "/chat"
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, ssl=authority().client_context(), proxy=None)
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["www-authenticate"] == "Token"
    assert refused.value.response.body == b"no token"
