"""The Python API: `Server` in a loop of one's own, `run` without one, `Config` for both."""

import asyncio
import inspect
import subprocess
import sys
import threading
import typing
from pathlib import Path

import httpx
import pytest

import alphorn
from alphorn import Config, Server
from alphorn.core.asgi import Receive, Scope, Send
from alphorn.core.errors import ApplicationFailed, ConfigError
from alphorn.workers import run
from support.certificates import TRUSTS_NOBODY
from support.logs import unconfigured
from support.steered_app import accept_lifespan
from support.waiting import until

HELLO = b"hello"


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await accept_lifespan(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": HELLO})


async def fetch(url: str) -> bytes:
    async with httpx.AsyncClient(trust_env=False, verify=TRUSTS_NOBODY) as client:
        return (await client.get(url)).content


# --- Names and types


def test_the_public_names_are_there_and_no_others_are_promised() -> None:
    assert sorted(alphorn.__all__) == ["Config", "Server", "__version__", "run"]
    for name in alphorn.__all__:
        assert getattr(alphorn, name)
    assert alphorn.run is run
    with pytest.raises(AttributeError, match="no attribute 'Sever'"):
        alphorn.Sever  # noqa: B018


@pytest.mark.parametrize("function", [Server.__init__, Server.start, Server.stop, Server.serve, run])
def test_the_public_functions_are_typed_and_described(function: typing.Callable[..., object]) -> None:
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    for parameter in signature.parameters.values():
        assert parameter.name == "self" or parameter.annotation is not inspect.Parameter.empty
    assert inspect.getdoc(function)


# --- Settings


async def test_settings_are_given_by_name_or_as_a_config() -> None:
    for server in (Server(hello, port=0, http2=False), Server(hello, Config(port=0, http2=False))):
        assert not server.config.http2
        assert server.urls == []
        async with server:
            assert await fetch(server.urls[0]) == HELLO


def test_settings_cannot_be_given_both_ways() -> None:
    with pytest.raises(ConfigError, match="twice"):
        Server(hello, Config(), port=0)


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(ConfigError, match="'prot'"):
        Server(hello, prot=80)
    with pytest.raises(ConfigError, match="'prot'"):
        run(hello, prot=80)


def test_a_setting_out_of_its_limits_is_named() -> None:
    with pytest.raises(ConfigError, match="port"):
        Server(hello, port=65536)


# --- Applications


async def test_an_application_may_be_given_by_name(tmp_path: Path) -> None:
    (tmp_path / "given_by_name.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': b'hello'})\n"
    )
    path = sys.path[:]
    try:
        async with Server("given_by_name:app", app_dir=str(tmp_path), port=0, lifespan="off") as server:
            assert await fetch(server.urls[0]) == HELLO
    finally:
        sys.path[:] = path
        sys.modules.pop("given_by_name", None)


async def test_other_interfaces_are_adapted() -> None:
    def wsgi(_: dict[str, object], start_response: typing.Callable[..., object]) -> list[bytes]:
        start_response("200 OK", [])
        return [HELLO]

    class Asgi2:
        def __init__(self, scope: Scope) -> None:
            self.scope = scope

        async def __call__(self, receive: Receive, send: Send) -> None:
            await hello(self.scope, receive, send)

    for app in (wsgi, Asgi2):
        async with Server(app, port=0) as server:
            assert await fetch(server.urls[0]) == HELLO


@pytest.mark.parametrize("app", ["no_such_module:app", 1])
def test_an_application_that_cannot_be_one_is_refused_before_anything_is_opened(app: object) -> None:
    with pytest.raises(ConfigError):
        Server(app)


def test_an_application_that_raises_while_it_is_loaded_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "raises_when_loaded.py").write_text("1 / 0\n")
    path = sys.path[:]
    try:
        with pytest.raises(ApplicationFailed) as raised:
            Server("raises_when_loaded:app", app_dir=str(tmp_path))
    finally:
        sys.path[:] = path
    assert "ZeroDivisionError" in raised.value.trace


# --- serve()


async def test_serve_serves_until_it_is_cancelled() -> None:
    server = Server(hello, port=0)
    serving = asyncio.ensure_future(server.serve())
    await until(lambda: server.urls, "the server to listen")  # an embedding program knows no other sign
    assert await fetch(server.urls[0]) == HELLO
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert server.drained


def test_serve_works_in_a_thread_where_there_are_no_signals() -> None:
    """Only the main thread can be told of signals; a server elsewhere does without."""
    urls: list[str] = []
    ready = threading.Event()
    finish: list[typing.Callable[[], object]] = []

    async def main() -> None:
        server = Server(hello, port=0)
        serving = asyncio.ensure_future(server.serve())
        await until(lambda: server.urls, "the server to listen")
        urls.extend(server.urls)
        loop = asyncio.get_running_loop()
        finish.append(lambda: loop.call_soon_threadsafe(serving.cancel))
        ready.set()
        await asyncio.wait([serving])

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(20)
    assert httpx.get(urls[0], trust_env=False).content == HELLO
    finish[0]()
    thread.join(20)
    assert not thread.is_alive()


# --- run()


async def test_run_says_that_it_needs_a_thread_without_a_loop() -> None:
    with pytest.raises(RuntimeError, match="await Server"):
        run(hello, port=0)


@pytest.mark.parametrize(
    ("loop", "module"), [("asyncio", "asyncio"), ("uvloop", "uvloop"), ("auto", "uvloop")]
)
def test_run_serves_in_the_loop_that_was_asked_for(loop: str, module: str) -> None:
    script = f"""
import asyncio, os, signal, alphorn
async def app(scope, receive, send):
    print(type(asyncio.get_running_loop()).__module__)
    await receive()
    os.kill(os.getpid(), signal.SIGTERM)
    await send({{"type": "lifespan.startup.complete"}})
    await receive()
    await send({{"type": "lifespan.shutdown.complete"}})
alphorn.run(app, port=0, loop={loop!r}, log_level="warning")
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stderr == ""
    first, last = done.stdout.splitlines()
    assert first.startswith(module)
    assert last == "done"


def test_run_without_uvloop_says_how_to_get_it() -> None:
    script = """
import sys
sys.modules["uvloop"] = None
import alphorn
from alphorn.core.errors import ConfigError
async def app(scope, receive, send): ...
try:
    alphorn.run(app, port=0, loop="uvloop")
except ConfigError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=20
    )
    assert done.stdout == "--loop uvloop: it is not installed; `pip install uvloop`\n"


@unconfigured()
def test_a_bad_bind_is_known_before_the_application_is_loaded() -> None:
    with pytest.raises(ConfigError, match="nonsense"):
        run("no_such_module:app", bind=("nonsense",))
