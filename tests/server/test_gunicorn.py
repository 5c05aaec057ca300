"""The worker class for Gunicorn: real Gunicorn, real workers, real signals."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from support.certificates import TRUSTS_NOBODY, Pair, authority
from support.engine import ENGINE
from support.http2_load import Http2Load
from support.load import APP as APP_UNDER_LOAD
from support.load import SOCKETS, Talkers
from support.process import ServerProcess
from support.visitor import Visitor

pytest.importorskip("gunicorn")

APP = """
import asyncio, os, sys, time

ANSWER = "first"

def say(text):
    print(text, file=sys.stderr, flush=True)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if seconds := float(os.environ.get("STARTUP_SECONDS", 0)):
            await asyncio.sleep(seconds)
        if "REFUSE" in os.environ:
            await send({"type": "lifespan.startup.failed", "message": "no database"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("the application shuts down")
        end = "failed" if "FAIL_SHUTDOWN" in os.environ else "complete"
        await send({"type": f"lifespan.shutdown.{end}"})
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        await receive()
        return
    if scope["path"] == "/hang":
        time.sleep(60)
    say("a request begins")
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200})
    content = f"{ANSWER} {scope['scheme']} {scope['http_version']} {os.getpid()}"
    await send({"type": "http.response.body", "body": content.encode()})
"""


class GunicornProcess(ServerProcess):
    """`gunicorn -k alphorn.gunicorn.Worker APP`, on a port the system chooses."""

    def command(self, app: str, options: Sequence[str]) -> list[str]:
        """Return what is run."""
        ours = ["--worker-class", "alphorn.gunicorn.Worker", "--bind", "127.0.0.1:0", "--no-control-socket"]
        return [sys.executable, "-m", "gunicorn", *ours, "--env", f"SERVE_ENGINE={ENGINE}", *options, app]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def gunicorn(folder: Path) -> Callable[..., GunicornProcess]:
    return lambda *options, **more: GunicornProcess("app:app", *options, folder=folder, **more)


class SlowRequest:
    """A request whose content is not complete yet, so that its application waits for it."""

    def __init__(self, server: GunicornProcess) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=20)
        self._socket.sendall(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n.")
        server.wait_for("a request begins")

    def finish(self) -> bytes:
        """Send the rest and return the answer."""
        self._socket.sendall(b".")
        return self.answer()

    def answer(self) -> bytes:
        """Return all that comes until the connection is closed."""
        with self._socket as connection, contextlib.suppress(ConnectionResetError):
            return b"".join(iter(lambda: connection.recv(4096), b""))
        return b""


def test_every_worker_speaks_every_protocol(gunicorn: Callable[..., GunicornProcess]) -> None:
    with gunicorn("--workers", "2") as server:
        server.wait_for("listening on ", nth=2)
        with httpx.Client(http1=True) as client:
            assert client.get(server.url).text.startswith("first http 1.1")
        with httpx.Client(http1=False, http2=True) as client:
            assert client.get(server.url).text.startswith("first http 2")
        with connect(server.url.replace("http", "ws")) as websocket:
            websocket.send("hoi")
            assert websocket.recv(timeout=20) == "hoi"


def test_over_tls_alpn_chooses(
    gunicorn: Callable[..., GunicornProcess], certificate: Pair, cafile: str
) -> None:
    with gunicorn(certificate=certificate) as server:
        assert server.url.startswith("https:")
        for http2, version in ((False, "1.1"), (True, "2")):
            verify = ssl.create_default_context(cafile=cafile)
            with httpx.Client(verify=verify, http2=http2) as client:
                assert client.get(server.url).text.startswith(f"first https {version}")


def test_a_tls_session_of_one_worker_is_resumed_by_another(
    gunicorn: Callable[..., GunicornProcess], certificate: Pair
) -> None:
    with gunicorn("--workers", "2", certificate=certificate) as server:
        server.wait_for("listening on ", nth=2)
        visitor = Visitor(server.port)
        served = {visitor.visit()}
        while len(served) < 2:  # pytest-timeout bounds it
            served.add(visitor.visit())
            assert visitor.reused


def test_the_content_of_a_request_may_follow_sigterm(gunicorn: Callable[..., GunicornProcess]) -> None:
    with gunicorn() as server:
        request = SlowRequest(server)
        server.send_signal(signal.SIGTERM)
        server.wait_for("waiting for 1 request (/ of 127.0.0.1:")
        assert b"first http 1.1" in request.finish()
        assert server.wait() == 0
        assert "the application shuts down" in server.log


def test_the_application_is_shut_down_before_gunicorn_kills_at_the_graceful_timeout(
    gunicorn: Callable[..., GunicornProcess],
) -> None:
    with gunicorn("--graceful-timeout", "8") as server:
        request = SlowRequest(server)
        assert server.stop() == 0
        request.answer()
        assert "after 4 seconds still 1 request (/ of 127.0.0.1:" in server.log
        assert "the application shuts down" in server.log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_waits_for_nobody_but_the_application(
    number: signal.Signals, gunicorn: Callable[..., GunicornProcess]
) -> None:
    with gunicorn() as server:
        request = SlowRequest(server)
        assert server.stop(number) == 0
        request.answer()
        assert "waiting for" not in server.log
        assert "the application shuts down" in server.log


def test_no_request_is_lost_when_workers_are_replaced_after_some(
    gunicorn: Callable[..., GunicornProcess],
) -> None:
    workers = set()
    with gunicorn("--workers", "2", "--max-requests", "5", "--max-requests-jitter", "2") as server:
        for _ in range(30):
            # What is closed before it has answered may be asked again; what is refused, not.
            with httpx.Client(transport=httpx.HTTPTransport(retries=0, verify=TRUSTS_NOBODY)) as client:
                workers.add(client.get(server.url).text.split()[-1])
    assert len(workers) >= 4


def test_no_request_is_lost_when_gunicorn_reloads(gunicorn: Callable[..., GunicornProcess]) -> None:
    with gunicorn("--workers", "2") as server:
        server.wait_for("listening on ", nth=2)
        server.send_signal(signal.SIGHUP)
        while server.log.count("the application shuts down") < 2:
            assert httpx.get(server.url, verify=TRUSTS_NOBODY).status_code == 200
        server.wait_for("listening on ", nth=4)


async def test_no_request_over_http2_and_no_message_is_lost_when_gunicorn_reloads(
    folder: Path, certificate: Pair
) -> None:
    (folder / "shop.py").write_text(APP_UNDER_LOAD)
    server = await asyncio.to_thread(
        GunicornProcess, "shop:app", "--workers", "2", folder=folder, certificate=certificate, quiet=True
    )
    with server:
        await asyncio.to_thread(server.wait_for, "listening on ", 2)
        async with (
            Talkers(server.url, authority().client_context()) as talkers,
            Http2Load(server.url, authority().client_context()) as http2,
        ):
            await http2.more_is_answered()
            server.send_signal(signal.SIGHUP)
            await asyncio.to_thread(server.wait_for, "listening on ", 4)
            await http2.everybody_has_moved()
            await http2.more_is_answered()
            await talkers.until(lambda: talkers.closings.total() >= SOCKETS)
            await talkers.everybody_is_heard_again()
    assert not http2.lost
    assert set(talkers.closings) == {1012}


def test_a_worker_that_hangs_is_replaced_and_its_log_says_where(
    gunicorn: Callable[..., GunicornProcess],
) -> None:
    with gunicorn("--timeout", "2") as server:
        assert httpx.get(f"{server.url}/hang", timeout=20).status_code == 500
        server.wait_for("time.sleep(60)")
        server.wait_for("listening on ", nth=2)
        assert httpx.get(server.url).status_code == 200


def test_a_worker_that_takes_long_to_start_is_not_killed(gunicorn: Callable[..., GunicornProcess]) -> None:
    with gunicorn("--timeout", "2", "--env", "STARTUP_SECONDS=4") as server:
        assert httpx.get(server.url).status_code == 200
        assert "WORKER TIMEOUT" not in server.log


def test_an_application_that_refuses_to_start_stops_gunicorn(
    gunicorn: Callable[..., GunicornProcess],
) -> None:
    with pytest.raises(AssertionError, match=r"refuses to start: no database(.|\n)*Worker failed to boot"):
        gunicorn("--env", "REFUSE=1")


def test_a_change_of_the_application_is_served(
    folder: Path, gunicorn: Callable[..., GunicornProcess]
) -> None:
    with gunicorn("--reload") as server:
        assert httpx.get(server.url).text.startswith("first")
        (folder / "app.py").write_text(APP.replace("first", "second"))
        os.utime(
            folder / "app.py", (2e9, 2e9)
        )  # Gunicorn compares times, and Python those of what it compiled
        server.wait_for("the application shuts down")
        assert httpx.get(server.url).text.startswith("second")


def test_a_shutdown_that_fails_is_logged(gunicorn: Callable[..., GunicornProcess]) -> None:
    with gunicorn("--env", "FAIL_SHUTDOWN=1") as server:
        assert server.stop() == 0
        assert "[ERROR] the application's shutdown failed" in server.log


def test_a_worker_that_is_still_loading_its_application_stops_too(
    folder: Path, gunicorn: Callable[..., GunicornProcess]
) -> None:
    (folder / "app.py").write_text(
        "import sys, time\nprint('loading', file=sys.stderr, flush=True)\ntime.sleep(60)"
    )
    with gunicorn(banner="loading") as server:
        assert server.stop(signal.SIGQUIT) == 0


def test_requests_are_logged_where_gunicorn_logs_them(
    folder: Path, gunicorn: Callable[..., GunicornProcess]
) -> None:
    log = folder / "access.log"
    form = '%(h)s "%(r)s" %(s)s'
    with gunicorn("--access-logfile", str(log), "--access-logformat", form) as server:
        httpx.get(f"{server.url}/before")
        log.rename(folder / "access.log.1")
        server.send_signal(signal.SIGUSR1)
        server.wait_for("Handling signal: usr1")
        while not log.exists():
            httpx.get(f"{server.url}/meanwhile", verify=TRUSTS_NOBODY)
        httpx.get(f"{server.url}/after")
    assert '127.0.0.1 "GET /before HTTP/1.1" 200\n' in (folder / "access.log.1").read_text()
    assert "/after" in log.read_text()


def test_gunicorn_says_whom_to_believe_about_the_client(gunicorn: Callable[..., GunicornProcess]) -> None:
    fields = {"x-forwarded-proto": "https"}
    with gunicorn() as server:  # by default loopback
        assert httpx.get(server.url, headers=fields).text.startswith("first https")
    with gunicorn("--forwarded-allow-ips", "192.0.2.1") as server:
        assert httpx.get(server.url, headers=fields).text.startswith("first http ")


def test_what_gunicorn_has_no_setting_for_is_a_variable(gunicorn: Callable[..., GunicornProcess]) -> None:
    with gunicorn("--env", "SERVE_SERVER_HEADER=hidden") as server:
        assert httpx.get(server.url).headers["server"] == "hidden"
    with pytest.raises(AssertionError, match="SERVE_SERVER_HAEDER: there is no such setting"):
        gunicorn("--env", "SERVE_SERVER_HAEDER=hidden")


def test_a_setting_without_effect_is_named(gunicorn: Callable[..., GunicornProcess]) -> None:
    with gunicorn("--threads", "2", "--ciphers", "ALL") as server:
        assert "the setting threads has no effect" in server.log
        assert "the setting ciphers has no effect" in server.log
        assert server.log.count("has no effect") == 2


def test_our_settings_without_effect_are_named_in_one_line(gunicorn: Callable[..., GunicornProcess]) -> None:
    variables = ("SERVE_ADMIN_BIND=127.0.0.1:0", "SERVE_WORKERS=4", "SERVE_SERVER_HEADER=hidden")
    options = [word for variable in variables for word in ("--env", variable)]
    with gunicorn("--workers", "2", *options) as server:
        server.wait_for("listening on ", nth=2)
        assert httpx.get(server.url).headers["server"] == "hidden"
        assert server.log.count("of no effect") == 1
        assert "of no effect with alphorn.gunicorn.Worker: SERVE_ADMIN_BIND, SERVE_WORKERS\n" in server.log


def test_a_worker_stops_when_gunicorn_has_been_killed(gunicorn: Callable[..., GunicornProcess]) -> None:
    server = gunicorn()
    server.send_signal(signal.SIGKILL)
    server.wait_for("Gunicorn has gone")
    server.wait_for("the application shuts down")
    assert server.wait() == -signal.SIGKILL
