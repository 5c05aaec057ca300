"""A server in a loop: what it opens, in which order, and that nothing is left when that fails."""

import asyncio
import socket
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from alphorn import Config, Server
from alphorn.core.asgi import Receive, Scope, Send
from alphorn.core.errors import ConfigError, ShutdownFailed, StartupFailed
from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP_CARRIERS
from support.certificates import TRUSTS_NOBODY, Pair
from support.clock import ManualClock
from support.serving import Connect, Serve
from support.steered_app import SteeredApp, accept_lifespan
from support.waiting import stays_pending, turns, within
from support.wire import Wire

HELLO = b"hello"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await accept_lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": HELLO})


async def unprepared(scope: Scope, receive: Receive, send: Send) -> None:
    assert scope["type"] == "lifespan"
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


async def fetch(url: str, path: str = "/") -> bytes:
    async with httpx.AsyncClient(trust_env=False, verify=TRUSTS_NOBODY) as client:
        return (await client.get(f"{url}{path}")).content


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
    return port


def assert_free(port: int) -> None:
    """Fail if anybody listens on a port of 127.0.0.1."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


# --- Starting


async def test_it_listens_where_it_says_and_nowhere_afterwards() -> None:
    async with Server(hello, port=0) as server:
        (url,) = server.urls
        port = urlsplit(url).port
        assert port
        assert url == f"http://127.0.0.1:{port}"
        assert await fetch(url) == HELLO
    assert_free(port)


async def test_every_bind_has_its_url(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    with socket.create_server(("127.0.0.1", 0)) as adopted:
        binds = ("127.0.0.1:0", "localhost:0", f"unix:{path}", f"fd://{socket.dup(adopted.fileno())}")
        async with Server(hello, bind=binds) as server:
            assert len(server.urls) >= 4
            for url in server.urls:
                if not url.startswith("unix:"):
                    assert await fetch(url) == HELLO
            assert f"unix:{path}" in server.urls


async def test_nobody_is_served_before_the_application_has_started(clock: ManualClock) -> None:
    app = SteeredApp(steer_lifespan=True)
    server = Server(app, port=(port := free_port()), clock=clock)
    starting = asyncio.ensure_future(server.start())
    lifespan = await app.next_call()
    async with httpx.AsyncClient(trust_env=False, verify=TRUSTS_NOBODY) as client:
        asking = asyncio.ensure_future(client.get(f"http://127.0.0.1:{port}/"))
        clock.advance(3600)
        assert await stays_pending(asking)
        assert not starting.done()
        await lifespan.send({"type": "lifespan.startup.complete"})
        await starting
        call = await app.next_call()
        await call.respond(body=HELLO)
        call.finish()
        assert (await asking).content == HELLO
    lifespan.finish()
    await server.stop()


async def test_it_can_start_again_after_it_has_stopped() -> None:
    server = Server(hello, port=0)
    for _ in range(2):
        async with server:
            assert await fetch(server.urls[0]) == HELLO


async def test_it_cannot_be_started_twice_at_once() -> None:
    async with Server(hello, port=0) as server:
        with pytest.raises(RuntimeError, match="started already"):
            await server.start()
        assert await fetch(server.urls[0]) == HELLO


async def test_stopping_what_does_not_run_does_nothing() -> None:
    server = Server(hello, port=0)
    await server.stop()
    assert not server.drained
    async with server:
        await server.stop()
    assert server.drained


async def test_two_servers_in_one_loop_know_nothing_of_each_other() -> None:
    async with Server(hello, port=0) as first, Server(SteeredApp(), port=0) as second:
        assert first.urls != second.urls
        assert await fetch(first.urls[0]) == HELLO
        await second.stop()
        assert await fetch(first.urls[0]) == HELLO


# --- Starting in vain


async def test_a_port_in_use_is_known_before_the_application_starts() -> None:
    app = SteeredApp(steer_lifespan=True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        first = free_port()
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}"):
            await Server(app, bind=(f"127.0.0.1:{first}", f"127.0.0.1:{port}")).start()
    assert app.calls == []
    assert_free(first)


@pytest.mark.parametrize("lifespan", ["auto", "on"])
async def test_an_application_that_refuses_to_start_leaves_no_socket(lifespan: str, tmp_path: Path) -> None:
    port, path = free_port(), tmp_path / "a.sock"
    server = Server(unprepared, bind=(f"127.0.0.1:{port}", f"unix:{path}"), lifespan=lifespan)
    with pytest.raises(StartupFailed, match="no database"):
        await server.start()
    assert_free(port)
    assert not path.exists()
    await server.stop()


async def test_a_bad_certificate_leaves_no_socket(certificate: Pair) -> None:
    port = free_port()
    with pytest.raises(ConfigError):
        await Server(hello, port=port, certfile=certificate.certfile, keyfile=__file__).start()
    assert_free(port)


async def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    app = SteeredApp(steer_lifespan=True)
    port = free_port()
    starting = asyncio.ensure_future(Server(app, port=port).start())
    lifespan = await app.next_call()
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await lifespan.cancelled_or_done() == "cancelled"
    assert_free(port)


# --- Lifespan


async def test_each_request_has_a_copy_of_the_state_of_its_own() -> None:
    pool = object()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            scope["state"]["pool"] = pool
            await accept_lifespan(receive, send)
            return
        assert scope["state"] == {"pool": pool}
        assert scope["state"]["pool"] is pool
        scope["state"]["user"] = "me"
        await hello(scope, receive, send)

    async with Server(app, port=0) as server:
        for _ in range(2):
            assert await fetch(server.urls[0]) == HELLO


async def test_a_failed_shutdown_of_the_application_is_an_error_of_stop() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "disk full"})

    server = Server(app, port=(port := free_port()))
    await server.start()
    with pytest.raises(ShutdownFailed):
        await server.stop()
    assert server.drained
    assert_free(port)


# --- Unix sockets


async def test_over_a_unix_socket_the_scope_says_its_path_and_no_client_defect_6(tmp_path: Path) -> None:
    path = tmp_path / "u"
    app = SteeredApp()
    async with Server(app, Config(bind=(f"unix:{path}",))) as server:
        assert server.urls == [f"unix:{path}"]
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(path))) as client:
            asking = asyncio.ensure_future(client.get("http://localhost/where"))
            call = await app.next_call()
            assert call.scope["server"] == (str(path), None)
            assert call.scope["client"] is None
            await call.respond(body=HELLO)
            call.finish()
            assert (await asking).content == HELLO
    assert not path.exists()


async def test_over_tcp_the_ports_are_numbers_defect_6(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect(await serve(app))
    await client.request("GET", "/")
    call = await app.next_call()
    (server_host, server_port), (client_host, client_port) = call.scope["server"], call.scope["client"]
    assert (server_host, client_host) == ("127.0.0.1", "127.0.0.1")
    assert server_port == urlsplit(serve.servers[0].urls[0]).port
    assert isinstance(client_port, int)


# --- Clients that say nothing


@pytest.mark.parametrize("carrier", HTTP_CARRIERS, ids=str)
async def test_a_client_that_never_asks_for_anything_is_not_waited_for_defect_4(
    serve: Serve, connect: Connect, clock: ManualClock
) -> None:
    client = await connect(await serve(hello, clock=clock))
    await turns()
    clock.advance(9)
    await turns()
    assert not client.ended
    clock.advance(2)
    await client.wait_closed()


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
async def test_a_client_that_never_comes_to_the_end_of_its_head_is_not_waited_for_defect_4(
    serve: Serve, connect: Connect, clock: ManualClock
) -> None:
    client = await connect.http1(await serve(hello, clock=clock))
    exchange = await client.request_raw(b"GET / HT")
    for _ in range(3):
        await turns()
        clock.advance(3)
        await client.send_raw(b"T")  # a byte now and then does not help
    await turns()
    clock.advance(2)
    assert (await exchange.response()).status == 408
    await client.wait_closed()


@pytest.mark.parametrize("carrier", [HTTP1_TLS], ids=str)
async def test_a_client_that_never_begins_its_tls_handshake_is_not_waited_for_defect_4(
    serve: Serve, clock: ManualClock
) -> None:
    wire = await Wire.open(await serve(hello, clock=clock))
    await turns()
    clock.advance(serve.servers[0].config.handshake_timeout)
    async with within("the server to close"):
        assert await wire.read() == b""
    wire.close()
