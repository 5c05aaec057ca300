"""Several workers, one answer: metrics are sums that never fall, and `alphorn ctl` reaches every worker."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from alphorn.ctl import command
from support.certificates import TRUSTS_NOBODY
from support.operator import Metrics
from support.process import ServerProcess

APP = """\
import asyncio
import os
import sys


async def app(scope, receive, send):
    if scope["path"] == "/wait":
        print("waits", file=sys.stderr, flush=True)
        while not os.path.exists("go"):
            await asyncio.sleep(0.02)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""
ADMIN = "unix:admin.sock"
REQUESTS = 40

pytestmark = pytest.mark.skipif("sys.platform == 'win32'", reason="sockets cannot be handed on there")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    """Two workers that are ready."""
    (tmp_path / "workers_app.py").write_text(APP)
    monkeypatch.chdir(tmp_path)
    options = ("--workers", "2", "--lifespan", "off", "--admin-bind", ADMIN)
    with ServerProcess("workers_app:app", *options, folder=tmp_path, quiet=True) as server:
        server.wait_for("is ready", 2)
        yield server


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def operator() -> httpx.Client:
    return httpx.Client(
        transport=httpx.HTTPTransport(uds="admin.sock", verify=TRUSTS_NOBODY),
        base_url="http://admin",
        trust_env=False,
    )


def metrics() -> Metrics:
    with operator() as client:
        return Metrics(client.get("/metrics").text)


def ask(server: ServerProcess, count: int = REQUESTS) -> dict[int, int]:
    """Make requests, each on a connection of its own; return how many each process has answered."""
    answered: dict[int, int] = {}
    for _ in range(count):
        pid = int(httpx.get(server.url, trust_env=False, verify=TRUSTS_NOBODY).text)
        answered[pid] = answered.get(pid, 0) + 1
    return answered


def requests() -> float:
    return metrics()("requests_total", protocol="http/1.1", status="2xx")


def test_the_sums_are_of_all_workers_and_do_not_fall_when_one_dies(server: ServerProcess) -> None:
    answered = ask(server)
    assert requests() == REQUESTS
    os.kill(next(iter(answered)), signal.SIGKILL)
    server.wait_for("is ready", 3)
    assert metrics()("worker_restarts_total") == 1
    assert metrics()("workers", state="ready") == 2
    assert requests() == REQUESTS
    ask(server)
    assert requests() == 2 * REQUESTS


def test_nothing_is_missing_of_workers_that_were_replaced(server: ServerProcess) -> None:
    pids = [worker["pid"] for worker in json.loads(ctl("--json", "status"))["workers"]]
    ask(server)
    # From here on nobody asks for numbers, until those who have them are gone.
    assert ctl("reload") == "2 workers were replaced\n"
    server.wait_until(lambda: not any(map(runs, pids)), "the old workers to be gone")
    assert requests() == REQUESTS


def test_gauges_are_of_each_worker(server: ServerProcess) -> None:
    now = metrics()
    assert [now("requests_in_flight", worker=number) for number in "12"] == [0, 0]
    assert now("workers_silent") == 0
    server.wait_until(lambda: metrics()("event_loop_lag_seconds_count") > 0, "a tick of the clock")


def ctl(*arguments: str) -> str:
    done = CliRunner().invoke(command, ["--admin", ADMIN, *arguments], standalone_mode=False)
    assert done.exception is None, done
    return done.output


def test_a_worker_that_drains_is_asked_as_well(server: ServerProcess, tmp_path: Path) -> None:
    got: list[int] = []
    url = f"{server.url}/wait"
    waiting = threading.Thread(
        target=lambda: got.append(int(httpx.get(url, trust_env=False, timeout=30).text))
    )
    waiting.start()
    server.wait_for("waits")
    assert ctl("reload") == "2 workers were replaced\n"
    (row,) = [row for worker in json.loads(ctl("--json", "streams")) for row in worker["rows"]]
    assert row["path"] == "/wait"
    workers = json.loads(ctl("--json", "status"))["workers"]
    states = {
        worker["pid"]: (worker["state"], worker["in_flight"]) for worker in workers if worker.get("in_flight")
    }
    assert sum(metrics()("requests_in_flight", worker=number) for number in "12") == 1
    (tmp_path / "go").touch()
    waiting.join()
    assert states == {got[0]: ("draining", 1)}


def test_the_operator_reaches_every_worker(server: ServerProcess) -> None:
    before = {worker["pid"] for worker in json.loads(ctl("--json", "status"))["workers"]}
    assert len(before) == 2
    assert before.issuperset(ask(server))
    assert ctl("log-level", "warning") == "2 of 2 workers log from warning on\n"
    stacks = ctl("stacks")
    assert "worker 1, thread" in stacks
    assert "worker 2, thread" in stacks
    assert ctl("reload") == "2 workers were replaced\n"
    assert before.isdisjoint(ask(server))
    ctl("drain")
    assert server.wait() == 0
