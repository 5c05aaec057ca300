"""WebSocket clients at the same port: websockets, aiohttp, and over HTTP/2 the client of these tests."""

import asyncio
import hashlib
import socket
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.frames import CloseCode

from support.carrier import HTTP2_CLEAR, HTTP2_TLS, Carrier
from support.certificates import authority
from support.process import ServerProcess
from support.serving import Connect
from support.waiting import until
from support.websocket_client import Offer, open_websocket

MESSAGES: list[str | bytes] = [
    "",
    "hello",
    "Grüezi \N{MOUNTAIN}",
    b"",
    b"\x00\xff",
    b"long" * 100_000,
    "lang" * 100_000,
]


@pytest.fixture(params=["clear", "secure"])
def server(request: pytest.FixtureRequest) -> ServerProcess:
    chosen: ServerProcess = request.getfixturevalue(request.param)
    return chosen


def visit(server: ServerProcess, target: str, **options: Any) -> connect:
    """Connect with the websockets library."""
    tls = authority().client_context() if server.cafile else None
    return connect(server.url.replace("http", "ws", 1) + target, proxy=None, ssl=tls, **options)


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_websockets_gets_its_messages_back(server: ServerProcess, compression: str | None) -> None:
    async with visit(server, "/echo", compression=compression, subprotocols=["chat", "other"]) as websocket:
        assert websocket.subprotocol == "chat"
        assert bool(websocket.protocol.extensions) == (compression is not None)
        for message in MESSAGES:
            await websocket.send(message)
            assert await websocket.recv() == message
        await websocket.send(["one ", "message in ", "three frames"])
        assert await websocket.recv() == "one message in three frames"
        assert await (await websocket.ping()) >= 0
    assert websocket.close_code == CloseCode.NORMAL_CLOSURE


async def test_websockets_keeps_many_conversations_apart(server: ServerProcess) -> None:
    async def talk(number: int) -> list[str | bytes]:
        async with visit(server, "/echo") as websocket:
            answers = []
            for turn in range(10):
                await websocket.send(f"{number} {turn}")
                answers.append(await websocket.recv())
            return answers

    answers = await asyncio.gather(*map(talk, range(20)))
    assert answers == [[f"{number} {turn}" for turn in range(10)] for number in range(20)]


async def test_websockets_is_refused_and_closed_by_the_application(server: ServerProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await visit(server, "/nowhere")
    assert refused.value.response.status_code == 403
    async with visit(server, "/download?bytes=100000") as websocket:
        # Iterating ends without an exception only when the server has closed with 1000 or 1001.
        assert sum([len(message) async for message in websocket]) == 100_000
    assert websocket.close_code == CloseCode.NORMAL_CLOSURE


async def test_aiohttp_gets_its_messages_back(server: ServerProcess) -> None:
    tls = authority().client_context() if server.cafile else True
    sockets: list[socket.socket] = []

    def remember(address: aiohttp.AddrInfoType) -> socket.socket:
        sockets.append(socket.socket(*address[:3]))
        return sockets[-1]

    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(socket_factory=remember)) as session,
        session.get(server.url, ssl=tls) as response,
        session.ws_connect(
            f"{server.url}/echo", ssl=tls, protocols=["chat"], compress=15, max_msg_size=0
        ) as websocket,
    ):
        assert (await response.text()).endswith("with HTTP/1.1\n")
        assert (websocket.protocol, websocket.compress) == ("chat", 15)
        for message in MESSAGES:
            if isinstance(message, str):
                await websocket.send_str(message)
                assert await websocket.receive_str() == message
            else:
                await websocket.send_bytes(message)
                assert await websocket.receive_bytes() == message
        await websocket.close(code=4000, message=b"enough")
        assert websocket.close_code == 4000
    # aiohttp does not wait for TLS to say goodbye, and an event loop that ends meanwhile complains.
    await until(lambda: all(used.fileno() < 0 for used in sockets), "the connections to close")


@pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)
async def test_over_http2_websockets_share_a_connection_with_requests(
    request: pytest.FixtureRequest, connect: Connect, carrier: Carrier
) -> None:
    server: ServerProcess = request.getfixturevalue("secure" if carrier.secure else "clear")
    client = await connect.http2(server.url)
    first = await open_websocket(client, "/echo", Offer(["chat"], deflate=True))
    second = await open_websocket(client, "/digest")
    assert (first.accepted, first.subprotocol, first.deflate) == (True, "chat", True)
    for message in MESSAGES:
        await first.send(message)
        assert await first.receive() == message
    await second.send(b"alphorn")
    await second.send("how much?")
    assert await second.receive() == f"7 {hashlib.sha256(b'alphorn').hexdigest()}"
    response = await (await client.request("GET", "/")).response()
    assert response.body.endswith(b"with HTTP/2\n")
    assert (await first.close(4000, "enough")).code == 4000
    assert (await second.close()).code == 1000
