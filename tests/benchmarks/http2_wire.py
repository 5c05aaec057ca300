"""Just enough HTTP/2 to put load on a server: frames are read, and what is sent was made beforehand.

Gives all windows at once and never again (2 GiB each), so it only suits runs that receive less per
connection. Heads are not decoded, for most of them are never looked at.
"""

import asyncio
import struct
from abc import ABC, abstractmethod
from typing import Final, cast

import hpack

DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK, PADDED = 1, 4, 1, 8
INITIAL_WINDOW_SIZE: Final = 4
LARGEST_WINDOW: Final = 2**31 - 1
MAX_FRAME: Final = 16384
HEAD: Final = struct.Struct("!LBL")  # the length in 24 bits, then the kind, together; flags; the stream


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame (RFC 9113, 4.1)."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def status(block: bytes) -> int:
    """Return the status of the first head on a connection; later ones lean on those before."""
    return int(dict(hpack.Decoder().decode(block, raw=True))[b":status"])


OPENING: Final = b"".join(
    (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        frame(SETTINGS, 0, 0, struct.pack("!HLHL", 2, 0, INITIAL_WINDOW_SIZE, LARGEST_WINDOW)),
        frame(WINDOW_UPDATE, 0, 0, struct.pack("!L", LARGEST_WINDOW - 65535)),
    )
)


class Http2Wire(asyncio.Protocol, ABC):
    """A connection; subclasses say what happens on its streams.

    Attributes:
        transport: Where to write.
        initial_window: What the server lets a new stream send, in bytes.
        connection_window: What it lets all streams together send.
        closed: Whether the connection has ended, for whatever reason.
    """

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.initial_window = 65535
        self.connection_window = 65535
        self.closed = False
        self._settled = False
        self._unparsed = b""

    @abstractmethod
    def ready(self) -> None:
        """The server has said its settings."""

    @abstractmethod
    def head(self, stream: int, block: bytes, ended: bool) -> None:
        """A response has begun."""

    @abstractmethod
    def data(self, stream: int, payload: bytes, ended: bool) -> None:
        """Content has come."""

    @abstractmethod
    def failed(self, stream: int) -> None:
        """The server has reset a stream."""

    def credit(self, stream: int, count: int) -> None:
        """The server lets a stream send more."""

    def turn_ends(self) -> None:
        """All that came in one read has been told."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open the connection."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(OPENING)

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember it."""
        self.closed = True

    def data_received(self, data: bytes) -> None:
        """Take the frames apart."""
        if self._unparsed:
            data = self._unparsed + data
        start, end = 0, len(data)
        while end - start >= HEAD.size:
            length_and_kind, flags, stream = HEAD.unpack_from(data, start)
            content = start + HEAD.size
            stop = content + (length_and_kind >> 8)
            if stop > end:
                break
            self._take(length_and_kind & 0xFF, flags, stream, data[content:stop])
            start = stop
        self._unparsed = data[start:]
        self.turn_ends()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            if flags & PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            self.data(stream, payload, bool(flags & END_STREAM))
        elif kind == HEADERS:
            self.head(stream, payload, bool(flags & END_STREAM))
        elif kind == WINDOW_UPDATE:
            self._credit(stream, int.from_bytes(payload))
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self.transport.write(frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM:
            self.failed(stream)
        elif kind == GOAWAY:
            self.transport.close()

    def _credit(self, stream: int, count: int) -> None:
        if stream == 0:
            self.connection_window += count
        self.credit(stream, count)

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack("!HL", payload):
            if name == INITIAL_WINDOW_SIZE:
                self.initial_window = value
        self.transport.write(frame(SETTINGS, ACK, 0))
        if not self._settled:
            self._settled = True
            self.ready()
