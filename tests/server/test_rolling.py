"""Workers that are replaced under load: h2load and many WebSockets, and nothing of them is lost."""

import asyncio
import os
import re
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from support.certificates import Pair, authority
from support.process import ServerProcess
from support.waiting import within

pytestmark = pytest.mark.skipif("sys.platform == 'win32'", reason="sockets cannot be handed on there")

SOCKETS = 200
PATIENCE_SECONDS = 40.0

APP = """
import os

async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
    else:
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    with ServerProcess("shop:app", "--workers", "2", folder=folder, quiet=True) as server:
        server.wait_for("worker 1 (pid")
        server.wait_for("worker 2 (pid")
        yield server


class Requests:
    """h2load, again and again until it is told to stop; a context manager that fails if a request did."""

    def __init__(self, h2load: str, url: str) -> None:
        self._command = [h2load, "--h1", "-n", "5000", "-c", "10", url]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.succeeded = 0
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            done = subprocess.run(self._command, capture_output=True, text=True, check=False)
            counts = re.search(r"(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", done.stdout)
            assert counts, done.stdout + done.stderr
            self.succeeded += int(counts[1])
            if counts.groups()[1:] != ("0", "0", "0"):
                self.failures.append(counts[0])


class Talkers:
    """WebSockets that say something, wait until they hear it, and so on.

    One that is closed because its worker goes (1012) connects again, and says again what it has not heard.

    Attributes:
        heard: How many messages came back.
        closings: How often a connection was closed, by code.
    """

    def __init__(self, url: str, number: int = SOCKETS) -> None:
        self.heard = 0
        self.closings: Counter[int] = Counter()
        self._url = url.replace("http", "ws", 1)
        self._number = number
        self._connected = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._talk()) for _ in range(self._number)]
        await self.until(lambda: self._connected >= self._number)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            if not task.cancelled():
                await task  # raises what it has ended of

    async def until(self, condition: Callable[[], object]) -> None:
        async with within("the WebSockets", PATIENCE_SECONDS):
            while not condition():
                assert not any(task.done() for task in self._tasks)
                await asyncio.sleep(0.05)

    async def everybody_is_heard_again(self) -> None:
        before = self.heard
        await self.until(lambda: self.heard > before + 2 * self._number)

    async def _talk(self) -> None:
        said = 0
        while True:
            async with connect(self._url, proxy=None, compression=None, open_timeout=20) as socket:
                self._connected += 1
                try:
                    said = await self._say(socket, said)
                except ConnectionClosed as closed:
                    self.closings[closed.rcvd.code if closed.rcvd else 1006] += 1

    async def _say(self, socket: ClientConnection, number: int) -> int:
        while True:
            await socket.send(str(number))
            assert await socket.recv() == str(number)
            number += 1
            self.heard += 1
            await asyncio.sleep(0.1)


async def told(server: ServerProcess, text: str) -> str:
    return await asyncio.to_thread(server.wait_for, text)


async def under_load(
    needs_tool: Callable[[str], str],
    server: ServerProcess,
    act: Callable[[Talkers], Awaitable[None]],
) -> Talkers:
    """Do something while there are requests and messages; none of the requests fails."""
    async with Talkers(server.url) as talkers:
        with Requests(needs_tool("h2load"), server.url) as requests:
            await talkers.everybody_is_heard_again()
            await act(talkers)
            await talkers.everybody_is_heard_again()
            await talkers.until(lambda: requests.succeeded)
    assert requests.failures == []
    return talkers


async def test_a_rolling_restart_loses_no_request_and_no_message(
    needs_tool: Callable[[str], str], server: ServerProcess
) -> None:
    async def restart(_: Talkers) -> None:
        server.send_signal(signal.SIGHUP)
        await told(server, "2 workers were replaced")

    talkers = await under_load(needs_tool, server, restart)
    assert set(talkers.closings) == {1012}
    assert (
        SOCKETS <= talkers.closings[1012] <= 2 * SOCKETS
    )  # once, or twice if the other old worker came next


async def test_a_restart_with_code_that_does_not_start_leaves_everything_as_it_is(
    needs_tool: Callable[[str], str], server: ServerProcess, folder: Path
) -> None:
    async def restart(_: Talkers) -> None:
        (folder / "shop.py").write_text("import shopp\n")
        server.send_signal(signal.SIGHUP)
        await told(server, "the rolling restart is given up at worker 1, and the workers that serve stay: ")

    talkers = await under_load(needs_tool, server, restart)
    assert not talkers.closings


async def test_a_binary_upgrade_loses_no_request_and_no_message(
    needs_tool: Callable[[str], str], folder: Path
) -> None:
    server = await asyncio.to_thread(ServerProcess, "shop:app", "--workers", "2", folder=folder, quiet=True)
    successor: list[int] = []

    async def upgrade(_: Talkers) -> None:
        server.send_signal(signal.SIGUSR2)
        line = await told(server, "has taken over: shutting down")
        successor.append(int(line.split()[4]))

    try:
        talkers = await under_load(needs_tool, server, upgrade)
        assert set(talkers.closings) == {1012}
        assert server._process.wait(PATIENCE_SECONDS) == 0
    finally:
        for pid in successor:
            os.kill(pid, signal.SIGTERM)
        server.kill()


async def test_an_upgrade_that_does_not_start_leaves_everything_as_it_is(
    needs_tool: Callable[[str], str], server: ServerProcess, folder: Path
) -> None:
    async def upgrade(_: Talkers) -> None:
        (folder / "shop.py").write_text("import shopp\n")
        server.send_signal(signal.SIGUSR2)
        await told(server, ", which was to take over, has ended: going on")

    talkers = await under_load(needs_tool, server, upgrade)
    assert not talkers.closings


async def test_of_a_worker_that_is_killed_only_its_own_connections_are_lost(server: ServerProcess) -> None:
    line = await told(server, "worker 1 (pid")
    async with Talkers(server.url) as talkers:
        await talkers.everybody_is_heard_again()
        os.kill(int(line.partition("(pid ")[2].partition(")")[0]), signal.SIGKILL)
        await told(server, "was ended by SIGKILL")
        await talkers.everybody_is_heard_again()  # and nobody was refused
    assert set(talkers.closings) <= {1006}
    assert talkers.closings[1006] < SOCKETS


async def test_a_renewed_certificate_is_used_by_every_worker_without_a_restart(
    folder: Path, needs_tool: Callable[[str], str]
) -> None:
    certfile, keyfile = folder / "cert.pem", folder / "key.pem"

    def use(name: str) -> None:
        pair = authority().issue(folder, (name, "localhost", "127.0.0.1"))
        Path(pair.certfile).rename(certfile)
        Path(pair.keyfile).rename(keyfile)

    use("old.test")
    server = await asyncio.to_thread(
        ServerProcess,
        "shop:app",
        "--workers",
        "2",
        folder=folder,
        certificate=Pair(str(certfile), str(keyfile)),
        quiet=True,
    )
    with server:
        await told(server, "worker 1 (pid")
        await told(server, "worker 2 (pid")
        with Requests(needs_tool("h2load"), server.url) as requests:
            use("new.test")
            await told(server, "worker 1: new certificates are in use: new.test")
            await told(server, "worker 2: new certificates are in use: new.test")
        assert requests.failures == []
        assert requests.succeeded
