"""Load that notices when something is lost: requests by h2load, and WebSockets that are answered."""

import asyncio
import re
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from typing import Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from .process import ServerProcess
from .waiting import until

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
"""Answers requests with the process that serves them, and WebSockets with what they say."""


class Requests:
    """h2load, again and again until it is told to stop; a context manager that fails if a request did."""

    def __init__(self, h2load: str, url: str) -> None:
        self._command = [h2load, "--h1", "-n", "1000", "-c", "10", url]
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

    def __init__(self, url: str, tls: ssl.SSLContext | None = None, number: int = SOCKETS) -> None:
        self.heard = 0
        self.closings: Counter[int] = Counter()
        self._url = url.replace("http", "ws", 1)
        self._tls = tls
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
        def reached() -> object:
            assert not any(task.done() for task in self._tasks)
            return condition()

        await until(reached, "the WebSockets", PATIENCE_SECONDS)

    async def everybody_is_heard_again(self) -> None:
        before = self.heard
        await self.until(lambda: self.heard > before + 2 * self._number)

    async def _talk(self) -> None:
        said = 0
        while True:
            async with connect(
                self._url, ssl=self._tls, proxy=None, compression=None, open_timeout=20
            ) as socket:
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


async def told(server: ServerProcess, text: str, nth: int = 1) -> str:
    """Wait for a line of the log, while the load goes on; see `ServerProcess.wait_for`."""
    return await asyncio.to_thread(server.wait_for, text, nth)
