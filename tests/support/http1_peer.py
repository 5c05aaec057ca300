"""An HTTP/1 connection without a socket: a transport in memory, and the client at its other end.

    peer = Http1Peer(app)
    peer.sends(b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
    await peer.settle()
    assert peer.received.endswith(b"hello")

Nothing happens here by itself: the client reads unless told not to, time stands still, and what
the loop has been asked to do is done in `settle()`. So a conversation depends on its steps alone.
"""

import asyncio
from collections import deque
from typing import Any

from alphorn.core.asgi import Application
from alphorn.core.config import Config
from alphorn.core.scope import ConnectionFacts
from alphorn.core.worker import Worker
from alphorn.protocols.http1 import Http1Connection
from alphorn.protocols.websocket import open_handshake

from .clock import ManualClock
from .engine import ENGINE
from .waiting import turns

TURNS = 20
"""Turns of the loop in which everything that follows from one step has happened."""

LONG_SECONDS = 600
"""Longer than all deadlines one after the other."""


class MemoryTransport(asyncio.Transport):
    """What asyncio's transports promise, and nothing they do not.

    Attributes:
        received: What has reached the client.
        writes: How often the protocol called `write`.
        unsent: What waits because the client does not read.
        client_reads: Whether it does.
        ended: Whether the client has seen the end of our sending.
        aborted: Whether the connection was cut by `abort()`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.received = bytearray()
        self.unsent = bytearray()
        self.writes = 0
        self.client_reads = True
        self.ended = False
        self.aborted = False
        self._protocol: asyncio.Protocol
        self._incoming: deque[bytes] = deque()  # b"" is the end
        self._reading = True
        self._closing = False
        self._eof = False
        self._lost = False
        self._high, self._low = 64 * 1024, 16 * 1024
        self._full = False

    # --- For the protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _Socket() if name == "socket" else default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        asyncio.get_running_loop().call_soon(self._deliver)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low
        self._balance()

    def get_write_buffer_size(self) -> int:
        return len(self.unsent)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._eof, "written behind the end"
        assert data, "nothing written"
        self.writes += 1
        if not self._closing:
            self.unsent += data
            self._flow()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._eof = True
        self._flow()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._flow()

    def abort(self) -> None:
        self.aborted = True
        self._closing = True
        self.unsent.clear()
        self._lose(None)

    # --- For the client

    def deliver(self, data: bytes) -> None:
        """Take what the client sends, b"" for its end; it waits while the protocol does not read."""
        self._incoming.append(data)
        self._deliver()

    def let_through(self, count: int | None = None) -> None:
        """Let the client read some of what waits, all of it unless told."""
        taken = self.unsent[:count]
        del self.unsent[: len(taken)]
        self.received += taken
        self._balance()
        if self.unsent:
            return
        if self._eof:
            self.ended = True
        if self._closing:
            self.ended = True
            self._lose(None)

    def lose(self, error: Exception | None) -> None:
        """Let the connection be gone."""
        self._closing = True
        self._lose(error)

    def _flow(self) -> None:
        if self.client_reads:
            self.let_through()
        self._balance()

    def _balance(self) -> None:
        if len(self.unsent) > self._high and not self._full:
            self._full = True
            self._protocol.pause_writing()
        elif len(self.unsent) <= self._low and self._full:
            self._full = False
            self._protocol.resume_writing()

    def _deliver(self) -> None:
        while self._incoming and self.is_reading():
            data = self._incoming.popleft()
            if data:
                self._protocol.data_received(data)
            elif not self._protocol.eof_received():
                self.close()

    def _lose(self, error: Exception | None) -> None:
        if not self._lost:
            self._lost = True
            asyncio.get_running_loop().call_soon(self._tell_lost, error)

    def _tell_lost(self, error: Exception | None) -> None:
        self._protocol.connection_lost(error)


class _Socket:
    def setsockopt(self, *_: int | bytes) -> None:
        """Take an option."""


class Http1Peer:
    """A connection, seen from its client.

    Attributes:
        clock: The time of the server.
        worker: What the connection belongs to.
        connection: Of the server.
        transport: Between the two.
    """

    def __init__(self, app: Application, **settings: Any) -> None:
        self.clock = ManualClock()
        config = Config(**dict[str, Any](access_log=False, engine=ENGINE) | settings)
        self.worker = Worker(config, self.clock, app, open_handshake)
        self.connection = Http1Connection(self.worker, ConnectionFacts(("127.0.0.1", 1), ("127.0.0.1", 80)))
        self.transport = MemoryTransport()
        self.transport.set_protocol(self.connection)
        self.connection.connection_made(self.transport)

    @property
    def received(self) -> bytes:
        """What the client has read."""
        return bytes(self.transport.received)

    def sends(self, *pieces: bytes) -> None:
        """Send pieces, each of which the server reads for itself unless it has paused."""
        for piece in pieces:
            if piece:
                self.transport.deliver(piece)

    def half_closes(self) -> None:
        """Say that nothing more will come, and keep reading."""
        self.transport.deliver(b"")

    def leaves(self) -> None:
        """Be gone without a word."""
        self.transport.lose(ConnectionResetError())

    def stops_reading(self) -> None:
        """Take nothing more of what the server sends."""
        self.transport.client_reads = False

    def reads(self, count: int | None = None) -> None:
        """Take some of what the server has sent meanwhile, all of it unless told."""
        self.transport.let_through(count)

    def goes_on_reading(self) -> None:
        """Take everything again, as it comes."""
        self.transport.client_reads = True
        self.transport.let_through()

    async def settle(self) -> None:
        """Let the server do what it has to do."""
        await turns(TURNS)

    async def left_behind(self, *, client_stays: bool = False) -> list[str]:
        """Say what is left of this connection after every deadline has passed.

        Args:
            client_stays: Whether the client is still there, doing nothing; else it leaves first.
        """
        if not client_stays:
            self.leaves()
            await self.settle()
        self.clock.advance(LONG_SECONDS)
        await self.settle()
        left = [f"application: {call.scope['path']}" for call in self.worker.dispatcher.running]
        left += [f"connection: {connection}" for connection in self.worker.connections]
        left += [f"deadline: {timed}" for timed in self.clock._watched]
        return left
