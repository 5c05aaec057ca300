"""`alphorn ctl`, against a real server: what it prints, what it changes, and how it fails."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from alphorn.ctl import command
from support.process import ServerProcess

APP = """\
import asyncio
import os
import sys


async def wait():
    while not os.path.exists("go"):
        await asyncio.sleep(0.02)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
        return
    if scope["path"] == "/wait":
        print("waits", file=sys.stderr, flush=True)
        await wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "waiting.py").write_text(APP)
    monkeypatch.chdir(tmp_path)  # a path that is short enough for every system
    monkeypatch.delenv("SERVE_ADMIN_BIND", raising=False)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("waiting:app", "--admin-bind", "unix:admin.sock", folder=folder, quiet=True) as server:
        yield server


def ctl(*arguments: str, admin: str = "unix:admin.sock") -> Result:
    return CliRunner().invoke(command, ["--admin", admin, *arguments], standalone_mode=False)


def says(*arguments: str) -> str:
    done = ctl(*arguments)
    assert done.exception is None, done
    return done.output


def answers(*arguments: str) -> Any:
    return json.loads(says("--json", *arguments))


@pytest.fixture
def waiting(server: ServerProcess, folder: Path) -> Iterator[Callable[[], str]]:
    """A request that waits until this is called, which returns its answer."""
    got: list[str] = []
    url = f"{server.url}/wait?token=secret"
    asking = threading.Thread(target=lambda: got.append(httpx.get(url, trust_env=False, timeout=20).text))
    asking.start()
    server.wait_for("waits")

    def answer() -> str:
        (folder / "go").touch()
        asking.join()
        return got[0]

    yield answer
    answer()


# --- Looking


def test_status_says_how_it_is(server: ServerProcess) -> None:
    httpx.get(server.url, trust_env=False)
    lines = says("status").splitlines()
    assert re.fullmatch(rf"ready, process {server.pid}, for \d+s, 0 workers replaced", lines[0])
    head, row = (line.split() for line in lines[2:4])
    assert dict(zip(head, row, strict=True)) | {"age": ""} == {
        "worker": "1",
        "pid": str(server.pid),
        "state": "ready",
        "age": "",
        "connections": "0",
        "in_flight": "0",
        "queued": "0",
        "websockets": "0",
    }
    assert lines[-1].split() == ["http/1.1", "2xx", "1"]
    assert answers("status")["counters"]["requests"]["http/1.1"]["2xx"] == 1


@pytest.mark.usefixtures("waiting")
def test_connections_and_streams_are_rows_without_anybodys_secrets(server: ServerProcess) -> None:
    (worker,) = answers("connections")
    (connection,) = worker["rows"]
    assert connection["client"].startswith("127.0.0.1:")
    assert connection["received"] > 0
    assert {name: connection[name] for name in ("protocol", "tls", "requests", "idle", "sent")} == {
        "protocol": "http/1.1",
        "tls": False,
        "requests": 1,
        "idle": False,
        "sent": 0,
    }
    (worker,) = answers("streams")
    (stream,) = worker["rows"]
    assert (stream["client"], stream["method"], stream["path"]) == (connection["client"], "GET", "/wait")
    assert "secret" not in says("streams") + says("connections") + says("stacks") + server.log
    head, row = says("streams").splitlines()
    assert head.split()[:4] == ["worker", "client", "protocol", "stream"]
    assert row.split()[:4] == ["1", connection["client"], "http/1.1", "-"]


def test_slow_requests_are_shown_while_they_run_and_when_they_have_ended(
    server: ServerProcess, waiting: Callable[[], str]
) -> None:
    while not answers("slow")[0]["rows"]:
        pass  # until it has taken a second; there is nothing else to wait for
    (row,) = answers("slow")[0]["rows"]
    assert (row["path"], row["status"], row.get("ended")) == ("/wait", None, None)
    assert row["seconds"] >= 1
    assert waiting() == "done"
    (row,) = answers("slow")[0]["rows"]
    assert (row["path"], row["status"]) == ("/wait", 200)
    assert row["ended"] >= 0
    assert server.url


def test_stacks_show_where_a_request_waits(waiting: Callable[[], str]) -> None:
    said = says("stacks")
    assert re.search(r"worker 1, task GET /wait of 127\.0\.0\.1:\d+\n", said)
    assert re.search(r'waiting\.py", line \d+, in app\n    await wait\(\)\n', said)
    assert waiting() == "done"


# --- Changing


def test_the_level_of_the_log_changes_at_once(server: ServerProcess) -> None:
    assert says("log-level", "debug") == "1 of 1 workers log from debug on\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as client:
        client.sendall(b"GET /\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    server.wait_for(" debug ")


def test_drain_lets_requests_finish_and_ends_the_server(
    server: ServerProcess, waiting: Callable[[], str]
) -> None:
    assert says("drain") == "what runs may end; then the server does\n"
    server.wait_for("alphorn ctl drain: shutting down")
    assert ctl("status").return_value == 1, "it is not ready"
    assert says("health") == "ok\n", "but it is alive"
    assert answers("status")["state"] == "draining"
    server.wait_for("waiting for 1 request (/wait of 127.0.0.1:")
    assert waiting() == "done"
    assert server.wait() == 0


def test_reload_without_certificates_says_what_to_do(server: ServerProcess) -> None:
    done = ctl("reload")
    assert "there is no certificate to read again" in str(done.exception), server.log


def test_over_a_port_nothing_can_be_changed_and_nobody_is_named(folder: Path) -> None:
    with ServerProcess("waiting:app", "--admin-bind", "127.0.0.1:0", folder=folder, quiet=True) as server:
        admin = server.wait_for("(administration)").split("http://")[1].split()[0]
        assert ctl("status", admin=admin).return_value == 0
        for name in ("connections", "streams", "slow", "stacks", "drain", "reload"):
            assert "this needs a unix socket" in str(ctl(name, admin=admin).exception), name


# --- How it fails, as a process


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alphorn", "ctl", *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.usefixtures("folder")
def test_a_mistake_is_one_line_and_its_exit_status() -> None:
    for arguments, status, told in (
        (("status",), 2, "Error: which server? say `alphorn ctl --admin unix:/PATH ...`"),
        (
            ("--admin", "unix:none.sock", "status"),
            1,
            "Error: no server answers at unix:none.sock: No such file",
        ),
        (
            ("--admin", "192.0.2.1:80", "status"),
            2,
            "Error: --admin-bind 192.0.2.1:80: who is not on this machine",
        ),
        (("--admin", "unix:none.sock"), 2, "Error: Missing command."),
        (("stop",), 2, "Error: No such command 'stop'."),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (status, ""), done
        assert done.stderr.startswith(told), done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_the_address_may_come_from_the_servers_own_settings(server: ServerProcess, folder: Path) -> None:
    (folder / "serve.toml").write_text(
        'app = "waiting:app"\nadmin-bind = ["127.0.0.1:9", "unix:admin.sock"]\n'
    )
    for done in (
        run("status", SERVE_ADMIN_BIND="127.0.0.1:9,unix:admin.sock"),
        run("--config", "serve.toml", "status"),
    ):
        assert (done.returncode, done.stderr) == (0, ""), server.log
        assert done.stdout.startswith("ready, ")
