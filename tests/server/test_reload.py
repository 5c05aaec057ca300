"""`--reload`: real processes, real files, edited while the server runs."""

import re
import signal
import socket
import ssl
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from alphorn import run
from alphorn.core.errors import ConfigError
from support.logs import unconfigured
from support.process import ServerProcess

pytest.importorskip("watchfiles")

APP = """
import asyncio, os, sys

def say(text):
    print(text, file=sys.stderr, flush=True)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        say("startup of ANSWER")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("shutdown of ANSWER")
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
    elif scope["path"] == "/crash":
        os._exit(3)
    elif scope["path"] == "/slow":
        say("a slow request begins")
        await asyncio.Event().wait()
    else:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"ANSWER"})
"""


class Project:
    """A folder with an application that is being worked on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.says("first")

    def says(self, answer: str) -> None:
        """Have the application answer so; answers differ in length, for Python compares sizes and seconds."""
        self.is_("app.py", APP.replace("ANSWER", answer))

    def is_(self, name: str, text: str) -> None:
        """Save a file as editors do: whole, and by another name first."""
        file = self.folder / f".{name}.new"
        file.write_text(text)
        file.replace(self.folder / name)

    def serve(self, *options: str, banner: str = "listening on http") -> ServerProcess:
        return ServerProcess("app:app", "--reload", *options, folder=self.folder, banner=banner)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def ask(server: ServerProcess) -> str:
    return httpx.get(server.url, timeout=20).text


def test_who_comes_during_a_restart_waits_and_gets_the_new_answer(project: Project) -> None:
    with project.serve() as server:
        assert ask(server) == "first"
        project.says("the second")
        server.wait_for("app.py: starting anew")
        assert ask(server) == "the second"
        project.says("the third one")
        server.wait_for("app.py: starting anew", nth=2)
        assert ask(server) == "the third one"
        assert re.search(r"serving again after \d+\.\d seconds", server.log)
        assert server.log.count("listening on ") == 1


def test_the_old_one_has_shut_down_before_the_new_one_starts(project: Project) -> None:
    with project.serve() as server:
        project.says("the second")
        server.wait_for("serving again")
        assert server.stop() == 0
        told = [line for line in server.log.splitlines() if line.startswith(("startup", "shutdown"))]
        assert told == [
            "startup of first",
            "shutdown of first",
            "startup of the second",
            "shutdown of the second",
        ]


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="asks the system for the children of a process"
)
def test_the_interpreter_of_the_next_one_is_there_before_the_change_and_gone_in_the_end(
    project: Project,
) -> None:
    with project.serve() as server:
        before = children(server, 2)
        project.says("another")
        server.wait_for("serving again")
        assert ask(server) == "another"
        after = children(server, 2)
        assert len(before & after) == 1, "the spare one of before serves, and there is another"
    assert not any(Path(f"/proc/{pid}").exists() for pid in before | after)


def children(server: ServerProcess, count: int) -> set[str]:
    """Wait until a process has so many children, and return them."""
    file = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    found: set[str] = set()

    def are_there() -> bool:
        found.clear()
        found.update(file.read_text().split())
        return len(found) == count

    server.wait_until(are_there, f"{count} children")
    return found


def test_a_syntax_error_is_told_once_and_can_be_mended(project: Project) -> None:
    with project.serve() as server:
        project.is_("app.py", "def app(:")
        server.wait_for("waiting for a change")
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as early:
            early.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            project.says("mended again")
            assert early.makefile("rb").read().endswith(b"mended again")
        assert server.log.count("def app(:") == server.log.count("SyntaxError: ") == 1


def test_an_application_that_cannot_be_loaded_from_the_start_is_waited_for(project: Project) -> None:
    project.is_("app.py", "1 / 0")
    with project.serve(banner="waiting for a change") as server:
        assert server.log.count("ZeroDivisionError: division by zero") == 1
        project.says("mended again")
        server.wait_for("listening on http://")


def test_an_application_that_is_not_there_from_the_start_ends_the_command(project: Project) -> None:
    with pytest.raises(AssertionError, match=r"there is no module 'ap' in .*; did you mean 'app'"):
        ServerProcess("ap:app", "--reload", folder=project.folder)


def test_a_change_during_a_startup_that_takes_for_ever_starts_anew(project: Project) -> None:
    with project.serve() as server:
        project.is_(
            "app.py", "import time, sys; print('loading', file=sys.stderr, flush=True); time.sleep(60)"
        )
        server.wait_for("loading")
        project.says("the second")
        server.wait_for("serving again")
        assert ask(server) == "the second"


def test_a_worker_that_crashes_is_started_anew_by_a_change(project: Project) -> None:
    with project.serve() as server:
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{server.url}/crash")
        server.wait_for("has ended with status 3")
        server.wait_for("waiting for a change")
        project.says("the second")
        assert ask(server) == "the second"


def test_an_open_websocket_is_closed_with_1012(project: Project) -> None:
    with project.serve() as server, connect(server.url.replace("http", "ws")) as websocket:
        project.says("the second")
        with pytest.raises(ConnectionClosed) as closed:
            websocket.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert ask(server) == "the second"


def test_a_slow_request_does_not_keep_the_new_code_waiting(project: Project) -> None:
    with project.serve() as server, socket.create_connection(("127.0.0.1", server.port)) as slow:
        slow.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        server.wait_for("a slow request begins")
        project.says("the second")
        server.wait_for("after 2 seconds still 1 request")
        assert ask(server) == "the second"


def test_a_development_certificate_outlives_restarts(project: Project, tmp_path: Path) -> None:
    (tmp_path / "certs").mkdir()
    with project.serve("--dev-tls") as server:
        verify = ssl.create_default_context(cafile=tmp_path / "certs" / "alphorn-ca.pem")
        with httpx.Client(base_url=server.url, verify=verify, http2=True) as client:
            assert client.get("/").text == "first"
            project.says("the second")
            server.wait_for("serving again")
            assert client.get("/").text == "the second"


def test_other_files_count_when_they_are_named(project: Project) -> None:
    with project.serve("--reload-include", "*.html", "--reload-exclude", "migrations") as server:
        (project.folder / "migrations").mkdir()
        (project.folder / "migrations" / "one.py").write_text("")
        (project.folder / "page.css").write_text("")
        (project.folder / "page.html").write_text("")
        assert "page.html: starting anew" in server.wait_for("starting anew")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_by_a_signal_even_while_it_waits_for_a_change(
    project: Project, number: signal.Signals
) -> None:
    with project.serve() as server:
        project.is_("app.py", "1 / 0")
        server.wait_for("waiting for a change")
        assert server.stop(number) == 0


def test_a_second_signal_ends_a_worker_that_does_not_end(project: Project) -> None:
    project.is_("app.py", APP.replace('say("shutdown of ANSWER")', "await asyncio.Event().wait()"))
    server = project.serve()
    server.send_signal(signal.SIGINT)
    server.wait_for("waiting for the application's shutdown")
    assert server.stop(signal.SIGINT) == -signal.SIGINT  # and nobody writes to its log any more


@unconfigured()
def test_an_application_that_is_no_name_cannot_be_started_anew() -> None:
    with pytest.raises(ConfigError, match="--reload: every worker imports the application itself"):
        run(Project, reload=True)


def test_several_workers_are_not_for_development() -> None:
    with pytest.raises(ConfigError, match="workers cannot stand beside reload"):
        run("app:app", reload=True, workers=2)
