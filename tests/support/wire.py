"""A TCP connection, clear or TLS, that moves bytes only when it is asked to.

No task and no transport reads in the background: what the test does not read stays in the
kernel, so that back-pressure is real. A read or write that is cancelled loses no bytes.
"""

import asyncio
import contextlib
import enum
import socket
import ssl
import struct
from collections.abc import Callable
from urllib.parse import urlsplit

from .waiting import within

CHUNK_BYTES = 64 * 1024


class Ending(enum.Enum):
    """How the peer ended its side of a connection."""

    FIN = "closed properly (over TLS: with close_notify)"
    TRUNCATED = "closed without the close_notify of TLS"
    RESET = "reset"


class Wire:
    """One connection of a client.

    Attributes:
        ending: How the server ended it, or None as far as has been read.
        sent: How many bytes were handed to the kernel, those of TLS included.
    """

    def __init__(self, connected: socket.socket) -> None:
        self.ending: Ending | None = None
        self.sent = 0
        self._socket = connected
        self._unsent = bytearray()
        self._writing = asyncio.Lock()
        self._waiting: set[asyncio.Future[None]] = set()
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        server_name: str | None = None,
        receive_buffer: int | None = None,
        source: str = "",
    ) -> "Wire":
        """Connect to the host and port of `url`.

        Args:
            url: Of the server; only its host and port are used.
            tls: Speak TLS with this context.
            server_name: Whom to ask for in TLS (SNI); the host of `url` unless given.
            receive_buffer: Bytes the kernel may hold for us (SO_RCVBUF); fixes it, where it would grow.
            source: The address to come from, if it is not to be the usual one.

        Raises:
            OSError: Nobody listens, or the TLS handshake failed (ssl.SSLError).
        """
        parts = urlsplit(url)
        host, port = parts.hostname or "127.0.0.1", parts.port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        connected = socket.socket(family, socket.SOCK_STREAM)
        wire = cls(connected)
        try:
            connected.setblocking(False)
            if receive_buffer is not None:
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            if source:
                connected.bind((source, 0))
            async with within(f"a connection to {url}"):
                await asyncio.get_running_loop().sock_connect(connected, (host, port))
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if tls is not None:
                    await wire._start_tls(tls, server_name or host)
        except BaseException:
            wire.close()
            raise
        return wire

    @property
    def alpn(self) -> str | None:
        """The protocol that TLS agreed on."""
        return self._tls.selected_alpn_protocol() if self._tls is not None else None

    @property
    def tls(self) -> ssl.SSLObject | None:
        """The TLS session: versions, ciphers, the server's certificate."""
        return self._tls

    @property
    def failed(self) -> bool:
        """Whether the server has reset the connection, as far as the kernel knows; says so once."""
        return self.closed or self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    @property
    def closed(self) -> bool:
        """Whether we closed it."""
        return self._socket.fileno() < 0

    async def read(self) -> bytes:
        """Read what has arrived, waiting for something; b"" when the server has ended (see `ending`).

        Raises:
            ssl.SSLError: The server broke TLS or sent an alert.
        """
        if self.ending is not None or self.closed:
            return b""
        if self._tls is None:
            return await self._receive()
        try:
            data = await self._read_tls(self._tls)
        except ssl.SSLZeroReturnError:
            self.ending = Ending.FIN
        except ssl.SSLEOFError:
            self.ending = Ending.TRUNCATED
        else:
            if not data and self.ending is None and not self.closed:
                self.ending = Ending.FIN
            return data
        return b""

    async def write(self, data: bytes) -> None:
        """Write all of `data`; waits while the kernel takes no more.

        Raises:
            ConnectionError: The server is gone, or we are.
        """
        if self.closed:
            raise ConnectionAbortedError("this client has closed its connection")
        if self._tls is None:
            self._unsent += data
        elif data:
            self._tls.write(data)
        await self._flush()

    async def write_eof(self) -> None:
        """Half-close: say that nothing more will come, and keep reading (RFC 9112, 9.6)."""
        if self._tls is not None:
            self._send_close_notify()
        await self._flush()
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close, over TLS with close_notify as far as the kernel takes it at once; harmless when closed."""
        if self.closed:
            return
        if self._tls is not None and self.ending is None and not self._unsent:
            self._send_close_notify()
            with contextlib.suppress(OSError):  # the server has gone first, or takes no more
                self._socket.send(self._outgoing.read())
        self._drop()

    def reset(self) -> None:
        """Leave without a word: the server gets a RST."""
        if not self.closed:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._drop()

    async def _start_tls(self, context: ssl.SSLContext, host: str) -> None:
        tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._tls = tls
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                self._incoming.write(await self._receive())
                if self.ending is not None:
                    self._incoming.write_eof()
            else:
                await self._flush()
                return

    async def _read_tls(self, tls: ssl.SSLObject) -> bytes:
        while True:
            try:
                return tls.read(CHUNK_BYTES)
            except ssl.SSLWantReadError:
                with contextlib.suppress(ConnectionError):
                    await self._flush()  # TLS may have to answer, for example a key update
                ciphertext = await self._receive()
                if ciphertext:
                    self._incoming.write(ciphertext)
                elif self.ending is Ending.RESET or self.closed:
                    return b""
                else:
                    self.ending = None  # only TLS knows whether this is the end or a cut
                    self._incoming.write_eof()

    def _send_close_notify(self) -> None:
        assert self._tls is not None
        with contextlib.suppress(ssl.SSLError):  # "want read": the server's close_notify is not there yet
            self._tls.unwrap()

    async def _receive(self) -> bytes:
        loop = asyncio.get_running_loop()
        while not self.closed:
            try:
                data = self._socket.recv(CHUNK_BYTES)
            except BlockingIOError:
                await self._ready(loop.add_reader, loop.remove_reader)
            except ConnectionResetError:
                self.ending = Ending.RESET
                return b""
            else:
                if not data:
                    self.ending = Ending.FIN
                return data
        return b""

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        self._unsent += self._outgoing.read()
        async with self._writing:
            while self._unsent:
                if self.closed:
                    raise ConnectionAbortedError("this client has closed its connection")
                try:
                    count = self._socket.send(self._unsent)
                except BlockingIOError:
                    async with within("the server to take what this client sends"):
                        await self._ready(loop.add_writer, loop.remove_writer)
                else:
                    self.sent += count
                    del self._unsent[:count]

    async def _ready(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        descriptor = self._socket.fileno()
        ready = asyncio.get_running_loop().create_future()
        self._waiting.add(ready)
        add(descriptor, _settle, ready)
        try:
            await ready
        finally:
            self._waiting.remove(ready)
            if not self.closed:
                remove(descriptor)

    def _drop(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._socket.fileno())
        loop.remove_writer(self._socket.fileno())
        self._socket.close()
        for waiting in self._waiting:
            _settle(waiting)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():  # level-triggered: the loop may tell us twice
        future.set_result(None)
