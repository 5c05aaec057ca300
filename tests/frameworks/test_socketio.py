"""python-socketio, by its own client."""

import asyncio

import aiohttp
import pytest
import socketio

from support.certificates import authority
from support.process import ServerProcess

APP = "on_socketio:app"


@pytest.mark.parametrize("transports", [["polling"], ["websocket"], ["polling", "websocket"]], ids="-".join)
async def test_a_chat(server: ServerProcess, transports: list[str]) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()
    connector = aiohttp.TCPConnector(ssl=authority().client_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        heidi, peter = (socketio.AsyncClient(http_session=session, reconnection=False) for _ in range(2))
        heidi.on("said", heard.put)
        for client in (heidi, peter):
            await client.connect(server.url, transports=transports)
            assert await client.call("join", "alp", timeout=10) == "welcome to alp"
        assert heidi.transport() == transports[-1]
        await peter.emit("say", {"room": "alp", "text": "Grüezi", "data": b"\x00\x01"})
        said = await asyncio.wait_for(heard.get(), 10)
        assert said == {"room": "alp", "text": "Grüezi", "data": b"\x00\x01"}
        await asyncio.gather(leave(heidi), leave(peter))


async def leave(client: socketio.AsyncClient) -> None:
    """Say goodbye and wait until all that the client did is done."""
    await client.disconnect()
    await client.wait()
