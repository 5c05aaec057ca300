"""`--admin-bind`: who can reach it, and what it says of a server's health."""

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from alphorn import Config, Server
from alphorn.core.asgi import Application, Receive, Scope, Send
from alphorn.core.errors import ConfigError
from alphorn.core.sockets import parse_admin_bind
from support.steered_app import accept_lifespan
from support.waiting import within


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await accept_lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of a unix socket, short enough for every system."""
    monkeypatch.chdir(tmp_path)
    return "admin.sock"


@asynccontextmanager
async def serving(app: Application, *binds: str) -> AsyncIterator[Server]:
    async with Server(app, Config(port=0, admin_bind=binds, graceful_timeout=2.0)) as server:
        yield server


def client(path: str) -> httpx.AsyncClient:
    """A client of a unix socket."""
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=path), base_url="http://admin", trust_env=False
    )


def mode_of(path: str) -> int | None:
    """Who may open a file; None where there is none."""
    file = Path(path)
    return stat.S_IMODE(file.stat().st_mode) if file.exists() else None


# --- Who can reach it


@pytest.mark.parametrize(
    "bind", [":9000", "0.0.0.0:9000", "[::]:9000", "192.0.2.1:9000", "fd://3", "example.invalid:9000"]
)
def test_what_others_could_reach_is_refused(bind: str) -> None:
    with pytest.raises(ConfigError, match=r"^--admin-bind .*;") as refused:
        parse_admin_bind(bind)
    assert bind in str(refused.value)


@pytest.mark.parametrize("bind", ["unix:/run/admin.sock", "127.0.0.1:9000", "127.8.0.1:1", "[::1]:9000"])
def test_unix_sockets_and_loopback_are_taken(bind: str) -> None:
    assert str(parse_admin_bind(bind)) == bind


async def test_a_unix_socket_is_its_owners_alone_and_is_removed(path: str) -> None:
    async with serving(hello, f"unix:{path}"):
        assert mode_of(path) == 0o600
    assert mode_of(path) is None


async def test_over_a_port_other_names_than_those_of_loopback_are_refused() -> None:
    async with serving(hello, "127.0.0.1:0") as server, httpx.AsyncClient(trust_env=False) as someone:
        url = f"{server.admin_urls[0]}/healthz"
        assert (await someone.get(url)).status_code == 200
        rebound = await someone.get(url, headers={"host": "attacker.example"})
        assert rebound.status_code == 421


# --- What it says


async def test_the_application_is_not_asked(path: str) -> None:
    async with serving(hello, f"unix:{path}"), client(path) as operator:
        answer = await operator.get("/healthz")
        assert (answer.status_code, answer.text) == (200, "ok\n")
        assert answer.headers["cache-control"] == "no-store"
        assert (await operator.get("/hello")).status_code == 404
        assert (await operator.post("/healthz")).status_code == 405
        assert (await operator.head("/healthz")).status_code == 200


async def test_readiness_follows_the_application(path: str) -> None:
    asked, begun, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def slow(_scope: Scope, receive: Receive, send: Send) -> None:
        for phase in ("startup", "shutdown"):
            await receive()
            asked.set()
            await begun.wait() if phase == "startup" else await ended.wait()
            await send({"type": f"lifespan.{phase}.complete"})

    server = Server(slow, Config(port=0, admin_bind=(f"unix:{path}",), graceful_timeout=2.0))

    async def ready() -> tuple[int, str]:
        async with client(path) as operator:
            answer = await operator.get("/readyz")
            return answer.status_code, answer.text

    starting = asyncio.create_task(server.start())
    async with within("the application to be asked"):
        await asked.wait()
    assert await ready() == (503, "starting\n")
    begun.set()
    await starting
    assert await ready() == (200, "ready\n")
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0)
    assert await ready() == (503, "draining\n")
    ended.set()
    await stopping


async def test_a_failed_start_leaves_no_endpoint(path: str) -> None:
    async def refuses(_scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with pytest.raises(Exception, match="no database"):
        async with serving(refuses, f"unix:{path}"):
            pass
    assert mode_of(path) is None
