"""`alphorn.testing.serve` and the pytest fixture: an application on a real port, for the length of a test."""

import asyncio
import contextlib
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from alphorn.core.asgi import Receive, Scope, Send
from alphorn.core.errors import ConfigError, ShutdownFailed, StartupFailed
from alphorn.testing import serve
from support.pages import ROOT, Page
from support.steered_app import accept_lifespan


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Says over what it is asked; echoes the first message of a WebSocket, then waits."""
    if scope["type"] == "lifespan":
        await accept_lifespan(receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        await receive()
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        body = f"{scope['scheme']} {scope['http_version']}".encode()
        await send({"type": "http.response.body", "body": body})


def failing(at: str) -> object:
    """An application that raises at an event of its lifespan, as frameworks do: it says so, then raises."""

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != at:
            await send({"type": "lifespan.startup.complete"})
        await send({"type": f"{at}.failed", "message": "no database"})
        raise LookupError("no database")

    return app


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
def test_a_client_that_trusts_the_server_speaks_what_it_likes_over_tls(http2: bool) -> None:
    with (
        serve(app, tls=True) as server,
        httpx.Client(
            base_url=server.url, verify=server.ssl_context(), http1=not http2, http2=http2
        ) as client,
    ):
        assert client.get("/").text == ("https 2" if http2 else "https 1.1")


def test_others_do_not_trust_it() -> None:
    with serve(app, tls=True) as server, httpx.Client(trust_env=False) as client:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            client.get(server.url)
        assert client.get(server.url.replace("https", "http")).status_code == 400


def test_in_the_clear_it_speaks_both_too() -> None:
    with serve(app) as server:
        assert server.cafile is None
        for version in (1, 2):
            with httpx.Client(http1=version == 1, http2=version == 2) as client:
                assert client.get(server.url).text in ("http 1.1", "http 2")
        with pytest.raises(RuntimeError, match="tls=True"):
            server.ssl_context()


@pytest.mark.parametrize("tls", [False, True], ids=["clear", "tls"])
async def test_a_websocket_works_and_is_told_when_the_test_ends(tls: bool) -> None:
    running = contextlib.ExitStack()
    server = running.enter_context(serve(app, tls=tls))
    async with connect(server.ws_url, ssl=server.ssl_context() if tls else None) as websocket:
        await websocket.send("hoi")
        assert await websocket.recv() == "hoi"
        await asyncio.to_thread(running.close)
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


def test_an_application_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "named_for_live_server.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 204})\n"
        "    await send({'type': 'http.response.body'})\n"
    )
    try:
        with serve("named_for_live_server:app", app_dir=str(tmp_path)) as server:
            assert httpx.get(server.url).status_code == 204
    finally:
        sys.path.remove(str(tmp_path))


def test_settings_are_those_of_config(tmp_path: Path) -> None:
    with serve(app, server_header="hidden", bind=f"unix:{tmp_path}/socket") as server:
        assert server.url == f"unix:{tmp_path}/socket"
        with httpx.Client(transport=httpx.HTTPTransport(uds=f"{tmp_path}/socket")) as client:
            assert client.get("http://localhost/").headers["server"] == "hidden"
    with pytest.raises(ConfigError, match="'prot'"), serve(app, prot=80):
        pass


def test_what_fails_at_the_start_is_raised_in_the_test_with_its_cause() -> None:
    with pytest.raises(StartupFailed, match="no database") as failure, serve(failing("lifespan.startup")):
        pytest.fail("it started")
    assert isinstance(failure.value.__cause__, LookupError)


def test_what_fails_at_the_end_is_raised_in_the_test() -> None:
    with pytest.raises(ShutdownFailed), serve(failing("lifespan.shutdown"), tls=True) as server:
        pass
    assert server.cafile is not None
    assert not Path(server.cafile).exists()


def test_a_port_in_use_is_raised_in_the_test() -> None:
    with serve(app) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(ConfigError, match="the port is in use"), serve(app, port=port):
            pytest.fail("it started")


def test_nothing_is_left_of_it() -> None:
    with serve(app, tls=True) as server:
        assert "alphorn-testing" in {thread.name for thread in threading.enumerate()}
    assert server.cafile is not None
    assert not Path(server.cafile).parent.exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(server.url, verify=ssl.create_default_context())


async def test_the_loop_of_an_async_test_is_left_alone() -> None:
    with serve(app, tls=True) as server:
        async with httpx.AsyncClient(base_url=server.url, verify=server.ssl_context(), http2=True) as client:
            assert (await client.get("/")).text == "https 2"


# --- pytest


def run_pytest(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    # Without a setting that a reader need not have, pytest-asyncio itself warns.
    quiet = ["-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error"]
    command = [sys.executable, "-m", "pytest", *quiet, *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=50, check=False)


def test_the_test_files_of_the_guide_pass_as_they_stand(tmp_path: Path) -> None:
    page = Page(ROOT / "docs" / "guide" / "testing.md")
    for block in page.blocks("python"):
        name = block.text.partition("\n")[0].removeprefix("# ")
        assert name.endswith(".py"), f"{block}: which file is it?"
        (tmp_path / name).write_text(block.text)
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 5 passed" in done.stdout


def test_the_fixture_can_be_named_in_several_files_that_have_imported_the_server(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"test_{name}.py").write_text(
            "import alphorn.pytest_plugin\n"
            "pytest_plugins = ['alphorn.pytest_plugin']\n"
            "async def app(scope, receive, send): ...\n"
            "def test_it(alphorn_serve):\n"
            "    assert alphorn_serve(app).url != alphorn_serve(app, tls=True).url\n"
        )
    for options in ([], ["-n", "2"]):
        done = run_pytest(tmp_path, *options)
        assert done.returncode == 0, done.stdout + done.stderr


def test_pytest_knows_nothing_of_the_server_unless_it_is_asked_to(tmp_path: Path) -> None:
    (tmp_path / "test_nothing.py").write_text(
        "import sys\n"
        "def test_it():\n"
        "    assert not [name for name in sys.modules if name.startswith('alphorn')]\n"
    )
    done = run_pytest(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_server_needs_no_pytest() -> None:
    script = "import sys; sys.modules['pytest'] = None; import alphorn.testing"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)
