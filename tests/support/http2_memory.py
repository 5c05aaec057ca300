"""One HTTP/2 connection of the server without a socket: bytes in, frames out, and proof that nothing is left."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any, cast

from alphorn.core.asgi import Application
from alphorn.core.config import Config
from alphorn.core.log import error_log
from alphorn.core.scope import ConnectionFacts
from alphorn.core.worker import Worker
from alphorn.protocols.http2 import Http2Connection
from alphorn.protocols.websocket import open_handshake

from .clock import ManualClock
from .engine import ENGINE
from .frames import Frame, FramePeer
from .memory_transport import MemoryTransport
from .waiting import turns
from .wire import Ending, Wire


class MemoryConnection:
    """The server's side of a connection, and a peer that reads and writes when the test says so.

    Attributes:
        server: The connection under test.
        worker: What it shares with others, there are none.
        clock: Its time.
        transport: What it writes to.
        peer: Serializes frames for it; `peer.seen` is all that was read so far.
    """

    def __init__(self, app: Application, **settings: Any) -> None:
        self.clock = ManualClock()
        config = Config(**dict[str, Any](access_log=False, engine=ENGINE) | settings)
        self.worker = Worker(config, self.clock, app, open_handshake)
        self.server = Http2Connection(self.worker, ConnectionFacts(("client", 1), ("server", 2)))
        self.transport = MemoryTransport(self.server)
        self.peer = FramePeer(cast(Wire, _MemoryWire(self.transport)))
        self.peer.acknowledges_settings = False

    def sends(self, *frames: Frame | bytes) -> None:
        """Let the server receive frames in one piece."""
        self.transport.feed(
            b"".join(frame if isinstance(frame, bytes) else self.peer.serialize(frame) for frame in frames)
        )

    async def reads(self) -> list[Frame]:
        """Read all that the server has written, now and as it finds room again; return all read so far."""
        await turns()
        while self.transport.written:
            while self.transport.written or len(self.peer._unread):
                await self.peer._read("frames")
            await turns()
        return self.peer.seen


@contextlib.asynccontextmanager
async def memory_connection(app: Application, **settings: Any) -> AsyncIterator[MemoryConnection]:
    """Open a connection; at the end hang up, and fail if anything is left of it or anything has gone wrong."""
    loop = asyncio.get_running_loop()
    faults: list[Any] = []
    listener = _Listener(faults)
    loop.set_exception_handler(lambda _, context: faults.append(context))
    error_log.addHandler(listener)
    try:
        connection = MemoryConnection(app, **settings)
        yield connection
        connection.transport.hang_up()
        await turns()
    finally:
        error_log.removeHandler(listener)
        loop.set_exception_handler(None)
    assert not faults, faults
    worker, server = connection.worker, connection.server
    assert not worker.connections, worker.connections
    assert not worker.dispatcher.running, [call.scope for call in worker.dispatcher.running]
    assert not connection.clock._watched, connection.clock._watched
    assert not server._streams, server._streams
    assert not server._sender._schedule.members
    assert not server._starting


class ApplicationMistake(Exception):  # noqa: N818 - it says what happened
    """What the applications of such tests raise; anything else that is logged is a fault of the server."""


class _Listener(logging.Handler):
    """Hears of faults of the server."""

    def __init__(self, faults: list[Any]) -> None:
        super().__init__(logging.ERROR)
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        mistake = record.exc_info is not None and isinstance(record.exc_info[1], ApplicationMistake)
        if not mistake and "application returned" not in record.getMessage():
            self._faults.append(self.format(record))


class _MemoryWire:
    """What a FramePeer needs of a wire."""

    ending: Ending | None = None

    def __init__(self, transport: MemoryTransport) -> None:
        self._transport = transport

    async def write(self, data: bytes) -> None:
        self._transport.feed(data)

    async def read(self) -> bytes:
        return self._transport.read()

    def close(self) -> None:
        self._transport.hang_up()
