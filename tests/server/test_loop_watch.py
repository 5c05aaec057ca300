"""Who blocks the event loop is named in the log: with the stack, once per place, and only then."""

import os
import signal
import time
from pathlib import Path

import httpx
import pytest

from support.process import ServerProcess

APP = """\
import time


def compute():
    time.sleep(1)


async def app(scope, receive, send):
    assert scope["type"] == "http"
    if scope["path"] == "/compute":
        compute()
    elif scope["path"] == "/other":
        time.sleep(1)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})
"""
OPTIONS = ("--lifespan", "off", "--blocked-loop-after", "400ms")
BLOCKED = "the event loop has been blocked"
needs_linux = pytest.mark.skipif(
    "sys.platform != 'linux'", reason="it looks at processes as Linux shows them"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "blocking.py").write_text(APP)
    return tmp_path


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_each_place_that_blocks_is_named_once_with_its_stack(folder: Path, loop: str) -> None:
    pytest.importorskip(loop)
    with ServerProcess("blocking:app", *OPTIONS, "--loop", loop, folder=folder, quiet=True) as server:
        for _ in range(2):
            assert httpx.get(f"{server.url}/compute", trust_env=False).text == "done"
        server.wait_for("the event loop turns again, after ")
        assert server.log.count('blocking.py", line 5, in compute') == 1
        assert server.log.index('blocking.py", line 11, in app') < server.log.index(
            'blocking.py", line 5, in compute'
        )
        httpx.get(f"{server.url}/other", trust_env=False)
        server.wait_for('blocking.py", line 13, in app')


@needs_linux
def test_an_idle_server_and_one_that_was_stopped_complain_of_nobody(folder: Path) -> None:
    with ServerProcess("blocking:app", *OPTIONS, folder=folder, quiet=True) as server:
        assert httpx.get(f"{server.url}/", trust_env=False).text == "done"
        server.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, server.pid, os.WSTOPPED | os.WNOWAIT)
        time.sleep(1)  # it is the time in which nothing runs, and no condition can be waited for
        server.send_signal(signal.SIGCONT)
        server.wait_for("all threads stood still for ")
        assert BLOCKED not in server.log


@needs_linux
def test_nobody_watches_where_it_is_switched_off(folder: Path) -> None:
    options = ("--lifespan", "off", "--blocked-loop-after", "0")
    with ServerProcess("blocking:app", *options, folder=folder, quiet=True) as server:
        httpx.get(f"{server.url}/compute", trust_env=False)
        threads = [Path(name, "comm").read_text() for name in Path(f"/proc/{server.pid}/task").iterdir()]
        assert len(threads) == 1
        assert BLOCKED not in server.log
