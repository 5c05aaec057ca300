"""Django with Channels."""

import json

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from support.certificates import authority
from support.process import ServerProcess

APP = "on_channels:app"


def visit(server: ServerProcess, target: str, origin: str | None = None) -> connect:
    """Open a WebSocket as a page of the server itself would, unless `origin` says otherwise."""
    url = server.url.replace("https", "wss") + target
    return connect(url, ssl=authority().client_context(), origin=Origin(origin or server.url), proxy=None)


async def hear(websocket: ClientConnection) -> object:
    return json.loads(await websocket.recv())


async def test_views_in_threads_and_in_the_loop(server: ServerProcess, visitor: httpx.AsyncClient) -> None:
    assert (await visitor.get("/")).json() == {"secure": True, "host": f"127.0.0.1:{server.port}"}
    assert (await visitor.get("/count")).text == "".join(f"{number}\n" for number in range(100))
    assert (await visitor.get("/nowhere")).status_code == 404


async def test_an_upload(visitor: httpx.AsyncClient) -> None:
    response = await visitor.post("/upload", data={"name": "Grüezi"}, files={"file": bytes(3_000_000)})
    assert response.json() == {"fields": {"name": "Grüezi"}, "size": 3_000_000}


async def test_a_chat(server: ServerProcess) -> None:
    async with visit(server, "/chat/alp") as heidi, visit(server, "/chat/town") as clara:
        async with visit(server, "/chat/alp") as peter:
            await peter.send('{"peter": "Grüezi"}')
            assert await hear(peter) == {"peter": "Grüezi"}
            assert await hear(heidi) == {"peter": "Grüezi"}
            await peter.close(4001, "the goats")
        assert await hear(heidi) == {"left": "/chat/alp", "code": 4001}
        await clara.send('{"clara": "alone"}')
        assert await hear(clara) == {"clara": "alone"}


async def test_a_foreign_page_is_refused(server: ServerProcess) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await visit(server, "/chat/alp", origin="https://evil.example")
    assert refused.value.response.status_code == 403
