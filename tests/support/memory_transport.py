"""A transport without a socket: what is written is kept, and the test says when the peer reads."""

import asyncio
from typing import Any


class MemoryTransport(asyncio.Transport):
    """One connection of a protocol under test, whose other end is the test.

    Attributes:
        written: What the protocol has written and the peer has not read.
        ended: Whether the protocol has said that it will write no more.
        reading: Whether the protocol wants to be fed.
        writes: How many times the protocol has written.
        pauses: How many times it was told to pause.
    """

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.written = bytearray()
        self.ended = False
        self.reading = True
        self.writes = 0
        self.pauses = 0
        self._protocol = protocol
        self._high = 64 * 1024
        self._low = 16 * 1024
        self._paused = False
        self._closing = False
        self._lost = False
        protocol.connection_made(self)

    # --- For the test

    def feed(self, data: bytes) -> None:
        """Let the protocol receive bytes, unless it has gone."""
        if not self._closing and not self._lost:
            assert isinstance(self._protocol, asyncio.Protocol)
            self._protocol.data_received(data)

    def read(self) -> bytes:
        """Read all that was written, as the peer."""
        data = bytes(self.written)
        self.written.clear()
        if self._paused:
            self._paused = False
            self._protocol.resume_writing()
        if self._closing:
            self._lose()
        return data

    def hang_up(self) -> None:
        """Close the connection, as the peer."""
        self._lose()

    # --- For the protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self._closing, "written to a transport that was closed"
        assert not self.ended, "written after write_eof"
        self.writes += 1
        self.written += data
        self._pause_if_full()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low
        self._pause_if_full()

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self._closing or self._lost

    def close(self) -> None:
        self._closing = True
        if not self.written:
            self._lose()

    def abort(self) -> None:
        self._closing = True
        self.written.clear()
        self._lose()

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def _pause_if_full(self) -> None:
        if len(self.written) > self._high and not self._paused:
            self._paused = True
            self.pauses += 1
            self._protocol.pause_writing()

    def _lose(self) -> None:
        if not self._lost:
            self._lost = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)
