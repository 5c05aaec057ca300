"""`--admin-bind`: who can reach it, and what it says of a server's health."""

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from alphorn import Config, Server
from alphorn.core.asgi import Application, Receive, Scope, Send
from alphorn.core.errors import ConfigError
from alphorn.core.sockets import parse_admin_bind
from alphorn.core.status_page import status_page
from support.certificates import TRUSTS_NOBODY
from support.process import ServerProcess
from support.steered_app import accept_lifespan
from support.waiting import turns, within


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
        transport=httpx.AsyncHTTPTransport(uds=path, verify=TRUSTS_NOBODY),
        base_url="http://admin",
        trust_env=False,
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
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(url).port)
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK\r\n"), "load balancers ask like this"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "asked", ["/", "/healthz", "/readyz", "/metrics", "/status", "/connections", "/reload"]
)
async def test_nothing_of_it_is_on_the_addresses_of_the_clients(path: str, asked: str) -> None:
    async with serving(hello, f"unix:{path}") as server, httpx.AsyncClient(trust_env=False) as someone:
        for host in ("localhost", "admin", urlsplit(server.urls[0]).netloc):
            for method in ("GET", "POST"):
                answer = await someone.request(method, f"{server.urls[0]}{asked}", headers={"host": host})
                assert answer.text == "hello", "the application's"


# --- What it says


async def test_the_application_is_not_asked(path: str) -> None:
    async with serving(hello, f"unix:{path}"), client(path) as operator:
        answer = await operator.get("/healthz")
        assert (answer.status_code, answer.text) == (200, "ok\n")
        assert answer.headers["cache-control"] == "no-store"
        assert (await operator.get("/hello")).status_code == 404
        assert (await operator.post("/healthz")).status_code == 405
        assert (await operator.head("/healthz")).status_code == 200


async def test_no_limit_of_the_clients_keeps_the_operator_out(path: str) -> None:
    config = Config(port=0, admin_bind=(f"unix:{path}",), max_connections=1, graceful_timeout=2.0)
    async with Server(hello, config) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", urlsplit(server.urls[0]).port)
        async with client(path) as operator, client(path) as another:
            for each in (operator, another):
                assert (await each.get("/healthz")).text == "ok\n"
        writer.close()
        await writer.wait_closed()


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
    await turns(1)
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


async def test_what_needs_a_unix_socket_is_refused_over_a_port(path: str) -> None:
    async with serving(hello, "127.0.0.1:0", f"unix:{path}") as server:
        async with httpx.AsyncClient(base_url=server.admin_urls[0], trust_env=False) as someone:
            for name in ("/connections", "/streams", "/slow", "/stacks"):
                assert (await someone.get(name)).status_code == 403
            for name in ("/reload", "/drain", "/log-level"):
                assert (await someone.post(name)).status_code == 403
            for name in ("/", "/status", "/metrics"):
                assert (await someone.get(name)).status_code == 200
        async with client(path) as operator:
            assert (await operator.get("/connections")).status_code == 200


async def test_what_makes_no_sense_is_refused_with_the_mend(path: str) -> None:
    async with serving(hello, f"unix:{path}"), client(path) as operator:
        for arguments, told in (
            ({"level": "loud"}, "'loud' is not one of debug, info"),
            ({}, "None is not one of debug, info"),
            ([], "the arguments are no JSON object"),
        ):
            answer = await operator.post("/log-level", json=arguments)
            assert answer.status_code == 409
            assert told in answer.text
        drain = await operator.post("/drain")
        assert (drain.status_code, "a part of a program" in drain.text) == (409, True)
        too_long = await operator.post("/log-level", content=b'{"level":"' + b"x" * 10_000)
        assert too_long.status_code == 409


async def test_an_upgrade_to_websocket_is_refused(path: str) -> None:
    fields = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    }
    async with serving(hello, f"unix:{path}"), client(path) as operator:
        assert (await operator.get("/", headers=fields)).status_code == 403


# --- The page


async def test_the_page_needs_nothing_from_elsewhere_and_names_nobody(path: str) -> None:
    async with serving(hello, f"unix:{path}") as server, httpx.AsyncClient(trust_env=False) as someone:
        await someone.get(f"{server.urls[0]}/secret")
        async with client(path) as operator:
            page = await operator.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none';")
    assert "<td>http/1.1</td><td>2xx</td><td>1</td>" in page.text
    assert "src=" not in page.text
    assert "href=" not in page.text
    assert "secret" not in page.text
    assert "127.0.0.1" not in page.text


def test_the_page_escapes_whatever_it_shows() -> None:
    bad = "<script>alert('&')</script>"
    worker = {"worker": bad, "pid": bad, "state": bad, "age": 1.0}
    counters = {"requests": {bad: {bad: 1}}, "limits": {bad: 1}, "opened": {bad: 1}}
    page = status_page({"state": bad, "restarts": bad, "workers": [worker], "counters": counters})
    assert b"<script" not in page
    assert page.count(b"&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;") == 10


# --- Without prometheus-client


def test_health_needs_no_extra_and_metrics_say_which(tmp_path: Path) -> None:
    (tmp_path / "prometheus_client.py").write_text("raise ImportError('it is not installed')\n")
    (tmp_path / "nothing.py").write_text("async def app(scope, receive, send): ...\n")
    with ServerProcess(
        "nothing:app", "--lifespan", "off", "--admin-bind", "127.0.0.1:0", folder=tmp_path
    ) as server:
        server.wait_for("/metrics needs prometheus-client: pip install 'alphorn[metrics]'")
        url = server.wait_for("(administration)").split()[5]
        assert httpx.get(f"{url}/readyz", trust_env=False).text == "ready\n"
        refused = httpx.get(f"{url}/metrics", trust_env=False)
        assert (refused.status_code, "pip install 'alphorn[metrics]'" in refused.text) == (501, True)
