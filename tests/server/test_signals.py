"""Signals, and how the process ends: real processes, told by real signals."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from support import http_client
from support.carrier import HTTP1_TLS, HTTP2_TLS, Carrier
from support.process import ServerProcess
from support.waiting import within
from support.websocket_client import Close, open_websocket

PATIENCE_SECONDS = 20.0
STOPS = [signal.SIGINT, signal.SIGTERM]

APP = """
import asyncio, sys, time

def say(text):
    print(text, file=sys.stderr, flush=True)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        say("the application shuts down")
        await send({"type": "lifespan.shutdown.complete"})
        return
    say("asked for " + scope["path"])
    if scope["path"] == "/hang":
        await asyncio.Event().wait()
    if scope["path"] == "/block":
        time.sleep(1000)
    if scope["path"] == "/thread":
        await asyncio.to_thread(time.sleep, 1000)
    size = 0
    more = True
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % size})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


@contextlib.contextmanager
def requesting(server: ServerProcess, path: str) -> Iterator[http.client.HTTPConnection]:
    """Make a request, and go on when the application has been called for it."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as client:
        client.request("GET", path)
        server.wait_for(f"asked for {path}")
        yield client


# --- The first signal


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.name)
def test_after_a_signal_requests_finish_and_the_application_shuts_down(
    folder: Path, stop: signal.Signals
) -> None:
    server = ServerProcess("shop:app", folder=folder)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as client:
        client.putrequest("POST", "/upload")
        client.putheader("content-length", "6")
        client.endheaders(b"abc")
        server.wait_for("asked for /upload")
        server.send_signal(stop)
        server.wait_for(f"{stop.name}: shutting down; once more ends at once")
        server.wait_for("waiting for 1 request (/upload of 127.0.0.1:")
        client.send(b"def")
        response = client.getresponse()
        assert (response.status, response.read()) == (200, b"6")
        assert response.getheader("connection") == "close"
    assert server.wait() == 0
    assert "the application shuts down" in server.log
    assert "Traceback" not in server.log


def test_a_request_that_outlives_the_grace_is_cancelled(folder: Path) -> None:
    with (
        ServerProcess("shop:app", "--graceful-timeout", "0.2", folder=folder) as server,
        requesting(server, "/hang") as client,
    ):
        server.send_signal(signal.SIGTERM)
        assert client.getresponse().status == 500
        assert server.wait() == 0
        assert "after 0.2 seconds still 1 request (/hang of 127.0.0.1:" in server.log
        assert "the application shuts down" in server.log


def test_defect_9_a_server_that_is_killed_leaves_nobody_on_its_port(folder: Path) -> None:
    """Nothing of it lives on: whoever comes next gets the port, and no answer comes from the old one."""
    server = ServerProcess("shop:app", folder=folder)
    port = server.port
    server.kill()
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection("127.0.0.1", port).connect()
    with socket.create_server(("127.0.0.1", port)):
        pass  # the port is free


def test_without_grace_an_idle_server_ends_cleanly(folder: Path) -> None:
    with ServerProcess("shop:app", "--graceful-timeout", "0", folder=folder) as server:
        assert server.stop() == 0
    assert "the application shuts down" in server.log


# --- The second


@pytest.mark.parametrize("first", STOPS, ids=lambda stop: stop.name)
@pytest.mark.parametrize("second", STOPS, ids=lambda stop: stop.name)
def test_a_second_signal_ends_the_process_at_once(
    folder: Path, first: signal.Signals, second: signal.Signals
) -> None:
    server = ServerProcess("shop:app", folder=folder)
    with requesting(server, "/hang"):
        server.send_signal(first)
        server.wait_for("shutting down")
        server.send_signal(second)
        assert server.wait() == -second
    assert "the application shuts down" not in server.log


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_second_signal_ends_even_a_process_whose_application_blocks_the_loop(
    folder: Path, loop: str
) -> None:
    server = ServerProcess("shop:app", "--loop", loop, folder=folder)
    with requesting(server, "/block"):
        assert signals_until_it_ends(server) == -signal.SIGINT


def signals_until_it_ends(server: ServerProcess) -> int:
    """Press Ctrl-C again and again: two in a row could be one for the process, and nobody says which came."""
    process = server._process
    for _ in range(100):
        server.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
            break
    return server.wait()


# --- What cannot be cancelled


@pytest.mark.parametrize("interface", ["asgi", "wsgi"])
def test_a_thread_that_does_not_end_is_named_and_not_waited_for(folder: Path, interface: str) -> None:
    (folder / "old.py").write_text(
        "import sys, time\n"
        "def app(environ, start_response):\n"
        "    print('asked for /thread', file=sys.stderr, flush=True)\n"
        "    time.sleep(1000)\n"
    )
    app = "shop:app" if interface == "asgi" else "old:app"
    server = ServerProcess(app, "--graceful-timeout", "0.1", folder=folder)
    with requesting(server, "/thread") as client:
        server.send_signal(signal.SIGTERM)
        assert client.getresponse().status == 500
        assert server.wait() == 1
    assert "waiting for threads of the application (" in server.log
    assert "ending without waiting for threads of the application (" in server.log


def test_a_signal_ends_the_wait_for_a_thread(folder: Path) -> None:
    server = ServerProcess("shop:app", "--graceful-timeout", "0.1", folder=folder)
    with requesting(server, "/thread"):
        server.send_signal(signal.SIGINT)
        server.wait_for("waiting for threads of the application")
        server.send_signal(signal.SIGINT)
        assert server.wait() == -signal.SIGINT


# --- While it starts, and when the application fails


class Command:
    """A process that need not come to listening."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if not name.startswith("SERVE_")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.log = ""

    def wait_for(self, text: str) -> str:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log += line
            if text in line:
                return line
        raise AssertionError(f"never said {text!r}:\n{self.log}")

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the status and the standard output."""
        out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        self.log += err
        return self.process.returncode, out

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()


def serve(folder: Path, source: str, *options: str) -> Command:
    (folder / "shop.py").write_text(f"import asyncio, sys, time\n{source}")
    return Command(folder, "-m", "alphorn", "--port", "0", *options, "shop:app")


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.name)
def test_a_long_startup_is_not_waited_for(folder: Path, stop: signal.Signals) -> None:
    source = """
async def app(scope, receive, send):
    print("loading the model", file=sys.stderr, flush=True)
    try:
        await asyncio.sleep(1000)
    except asyncio.CancelledError:
        print("loading no more", file=sys.stderr, flush=True)
        raise
"""
    with serve(folder, source) as command:
        command.wait_for("loading the model")
        command.process.send_signal(stop)
        assert command.end() == (0, "")
        assert "loading no more" in command.log
        assert "listening" not in command.log
        assert "Traceback" not in command.log


def test_a_thread_of_a_startup_in_vain_is_not_waited_for_as_long_as_a_request(folder: Path) -> None:
    source = """
async def app(scope, receive, send):
    print("loading the model", file=sys.stderr, flush=True)
    await asyncio.to_thread(time.sleep, 1000)
"""
    with serve(folder, source) as command:
        command.wait_for("loading the model")
        command.process.send_signal(signal.SIGTERM)
        assert command.end() == (1, "")  # the grace for requests would be longer than our patience
        assert "ending without waiting for threads of the application (" in command.log


def test_a_startup_that_blocks_the_loop_ends_with_the_second_signal(folder: Path) -> None:
    source = """
async def app(scope, receive, send):
    print("loading the model", file=sys.stderr, flush=True)
    time.sleep(1000)
"""
    with serve(folder, source) as command:
        command.wait_for("loading the model")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while command.process.poll() is None and time.monotonic() < deadline:
            command.process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                command.process.wait(0.2)
        assert command.end() == (-signal.SIGTERM, "")


def test_an_exception_in_startup_with_lifespan_on_is_status_3_and_shows_the_traceback(folder: Path) -> None:
    source = """
async def app(scope, receive, send):
    connect_to_database()

def connect_to_database():
    raise ConnectionError("no route")
"""
    with serve(folder, source, "--lifespan", "on") as command:
        assert command.end() == (3, "")
    files = re.findall(r'File "(.*)", line', command.log)
    assert files == [str(folder / "shop.py")] * 2, command.log
    assert (
        command.log.splitlines()[-1] == "Error: the application's lifespan raised ConnectionError: no route"
    )


def test_a_failed_shutdown_is_status_4(folder: Path) -> None:
    source = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "disk full"})
"""
    with serve(folder, source) as command:
        command.wait_for("listening on")
        command.process.send_signal(signal.SIGTERM)
        assert command.end() == (4, "")
    assert "the application's shutdown failed: disk full" in command.log
    assert command.log.splitlines()[-1] == "Error: the application's shutdown failed"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_shutdown_of_the_application_that_hangs_is_cancelled(folder: Path, workers: str) -> None:
    source = """
import asyncio

async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await asyncio.Event().wait()
"""
    with serve(folder, source, "--workers", workers, "--shutdown-timeout", "0.1") as command:
        command.wait_for("listening on")
        command.process.send_signal(signal.SIGTERM)
        assert command.end() == (4, "")
    assert "the application's shutdown takes longer than 0.1 seconds (--shutdown-timeout)" in command.log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_shutdown_of_the_application_that_blocks_the_loop_does_not_keep_the_process(
    folder: Path, workers: str
) -> None:
    source = """
import threading, time

async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    mailer = threading.Thread(target=time.sleep, args=(1000,), name="mailer")
    mailer.start()
    mailer.join()
"""
    with serve(folder, source, "--workers", workers, "--shutdown-timeout", "0.1") as command:
        command.wait_for("listening on")
        command.process.send_signal(signal.SIGTERM)
        assert command.end() == (1, "")
    assert "ending without waiting for threads of the application (mailer) any longer" in command.log
    assert "mailer.join()" in command.log  # whoever keeps the loop is named


# --- Signals that are for several workers


@pytest.mark.skipif("sys.platform == 'win32'", reason="there are no such signals")
def test_what_one_process_alone_cannot_do_is_said_and_does_no_harm(folder: Path) -> None:
    with ServerProcess("shop:app", folder=folder) as server:
        server.send_signal(signal.SIGHUP)
        server.wait_for("SIGHUP: there is no certificate to read again; for new code, start the server again")
        server.send_signal(signal.SIGUSR2)
        server.wait_for("SIGUSR2: only a service with --workers is upgraded in place")


# --- In a program of one's own

HELLO = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
"""


def test_run_returns_to_its_caller_who_has_the_signals_again(folder: Path) -> None:
    script = f"""
import signal, alphorn
{HELLO}
alphorn.run(app, port=0)
print("done", signal.getsignal(signal.SIGINT) is signal.default_int_handler, end="")
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
"""
    with Command(folder, "-c", script) as command:
        command.wait_for("listening on http://127.0.0.1:")
        command.process.send_signal(signal.SIGINT)
        assert command.end() == (0, "done TrueTrue\n")


def test_one_signal_ends_all_servers_of_a_loop(folder: Path) -> None:
    script = f"""
import asyncio, logging
from alphorn import Server
logging.basicConfig(level="INFO")
{HELLO}
async def main():
    await asyncio.gather(Server(app, port=0).serve(), Server(app, port=0).serve())
    print("both have ended")
asyncio.run(main())
"""
    with Command(folder, "-c", script) as command:
        command.wait_for("listening on http://127.0.0.1:")
        command.wait_for("listening on http://127.0.0.1:")
        command.process.send_signal(signal.SIGTERM)
        assert command.end() == (0, "both have ended\n")


# --- All at once: the demonstration, over TLS, with its page open


@pytest.mark.parametrize("carrier", [HTTP1_TLS, HTTP2_TLS], ids=str)
async def test_the_demonstration_ends_at_once_with_its_page_open_defect_15(
    tmp_path: Path, carrier: Carrier
) -> None:
    (tmp_path / "certs").mkdir()
    server = await asyncio.to_thread(ServerProcess, "--demo", "--dev-tls", folder=tmp_path)
    try:
        trust = re.search(r"curl --cacert (\S+)", server.wait_for("--cacert"))
        assert trust
        cafile = trust[1]
        assert Path(cafile).is_relative_to(tmp_path / "certs")
        assert "certificate for " in server.wait_for("listening on")

        response = await http_client.fetch(server.url, carrier, target="/negotiated", cafile=cafile)
        assert response.status == 200, response
        assert json.loads(response.body)

        page = await http_client.connect(server.url, carrier, cafile=cafile)
        events = await page.request("GET", "/events")
        assert (await events.head()).field("content-type") == b"text/event-stream"
        assert await events.read_chunk()
        chat_client = await http_client.connect(server.url, carrier, cafile=cafile)
        chat = await open_websocket(chat_client, "/chat")
        assert chat.accepted

        server.send_signal(signal.SIGINT)
        async with within("the end", PATIENCE_SECONDS):
            while not isinstance(message := await chat.receive(), Close):
                pass
            assert message == Close(1012, "server shutting down")
            await events.read()
            assert events.complete
            page.close()
            chat_client.close()
            assert await asyncio.to_thread(server.wait) == 0
    finally:
        await asyncio.to_thread(server.kill)
    assert "cancelling" not in server.log
    assert "Traceback" not in server.log
