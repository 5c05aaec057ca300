"""Those who attack on one connection: they send what they like, and hear what becomes of it."""

import asyncio
import base64
import contextlib
import itertools
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from typing import Self

import hpack
from h2.errors import ErrorCodes

from support.frames import END_HEADERS, PREFACE, Frame, FramePeer, Settings
from support.waiting import turns
from support.wire import Ending, Wire

from .attack import ENOUGH_SECONDS, FLOOD_SECONDS, Target, Undefended, after

STALL_SECONDS = 1.5
"""A server that takes nothing for so long has stopped reading."""
_LAST_WORDS_SECONDS = 2.0


class Intruder(ABC):
    """An attacker on one connection.

    Attributes:
        wire: The connection.
    """

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self._began = asyncio.get_running_loop().time()

    async def provoke(
        self,
        pieces: Iterable[bytes] = (),
        *,
        pause: float = 0.0,
        seconds: float | None = None,
        reading: bool = True,
        may_stall: bool = False,
        otherwise: str | None = None,
    ) -> str:
        """Send pieces, and listen meanwhile, until the server puts an end to it; then hang up.

        Args:
            pieces: What to send; may be endless.
            pause: Between two of them, in seconds.
            seconds: How long to go on, if not for as long as is usual.
            reading: Whether to listen at all.
            may_stall: Whether it is a defence to stop reading.
            otherwise: What to say of a server that has put no end to it, where none is needed.

        Returns:
            What the server did.

        Raises:
            Undefended: Nothing, and `otherwise` has no word for that.
        """
        if seconds is None:
            seconds = FLOOD_SECONDS if otherwise is None else ENOUGH_SECONDS
        listening = asyncio.ensure_future(self._listen() if reading else asyncio.sleep(seconds))
        try:
            async with asyncio.timeout(seconds):
                await self._send(pieces, pause, STALL_SECONDS if may_stall else None, listening)
                await listening
        except TimeoutError:
            if otherwise is None:
                raise Undefended(f"nothing was done about it for {seconds:.0f} s") from None
            return otherwise
        except _StoppedReading:
            return f"stopped reading after {self.wire.sent // 1024:,} KiB"
        finally:
            listening.cancel()
            self.wire.close()
        return self._seen() + after(asyncio.get_running_loop().time() - self._began)

    async def _send(
        self, pieces: Iterable[bytes], pause: float, patience: float | None, listening: asyncio.Future[None]
    ) -> None:
        for piece in pieces:
            writing = asyncio.ensure_future(self.wire.write(piece))
            try:
                await asyncio.wait(
                    {writing, listening}, timeout=patience, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                if not writing.done():
                    writing.cancel()
            if not writing.done():
                if not listening.done():
                    raise _StoppedReading
                return
            try:
                await writing
            except ConnectionError:  # what the server said before it went is still to be heard
                await asyncio.wait({listening}, timeout=_LAST_WORDS_SECONDS)
                return
            if pause:
                await asyncio.wait({listening}, timeout=pause)
            else:
                await turns(1)
            if listening.done():
                return

    async def _listen(self) -> None:
        """Read until there is nothing more to be said."""
        with contextlib.suppress(ConnectionError):
            while not self._satisfied and (data := await self.wire.read()):
                for answer in self._digest(data):
                    with contextlib.suppress(ConnectionError):
                        await self.wire.write(answer)

    @property
    def _satisfied(self) -> bool:
        """Whether the server has said what it does about it."""
        return False

    @abstractmethod
    def _digest(self, data: bytes) -> Iterable[bytes]:
        """Take what was read; return what politeness demands to answer."""

    def _seen(self) -> str:
        """Say what the server did."""
        return "reset" if self.wire.ending is Ending.RESET else "closed"


class _StoppedReading(Exception):  # noqa: N818 - as asyncio.CancelledError, it is no error
    """The server takes no more."""


class Http1Intruder(Intruder):
    """Speaks HTTP/1.1, more or less."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._beginning = b""

    def _digest(self, data: bytes) -> Iterable[bytes]:
        self._beginning = (self._beginning + data)[:4096]
        return ()

    def _seen(self) -> str:
        # The last status: an attack may begin with a request that is answered.
        statuses = re.findall(rb"^HTTP/1\.1 ([45]\d\d)", self._beginning, re.MULTILINE)
        return statuses[-1].decode() if statuses else super()._seen()


class Http2Intruder(Intruder):
    """Speaks HTTP/2 frame by frame; acknowledges SETTINGS, so that nobody has to wait for it.

    Attributes:
        answers: What was said to a stream: statuses and codes of RST_STREAM.
        content_with_reset: Whether a RST_STREAM, or a status of an error, is all that is waited for.
        acknowledges_settings: Whether SETTINGS are acknowledged; not by those who are in the middle of something.
    """

    def __init__(self, wire: Wire, *, content_with_reset: bool = False) -> None:
        super().__init__(wire)
        self.answers: Counter[str] = Counter()
        self.content_with_reset = content_with_reset
        self.acknowledges_settings = True
        self._goaway: str | None = None
        self._unread = bytearray()
        self._decoder = hpack.Decoder()
        self._peer = FramePeer(wire)

    @classmethod
    async def open(
        cls, target: Target, settings: dict[int, int] | None = None, *, content_with_reset: bool = False
    ) -> Self:
        """Connect and say the preface."""
        intruder = cls(await target.connect("h2"), content_with_reset=content_with_reset)
        await intruder.wire.write(PREFACE + intruder.frames(Settings(settings or {})))
        return intruder

    def frames(self, *frames: Frame) -> bytes:
        """Return the bytes of frames."""
        return b"".join(map(self._peer.serialize, frames))

    @property
    def _satisfied(self) -> bool:
        return self._goaway is not None or (self.content_with_reset and self._refusal is not None)

    @property
    def _refusal(self) -> str | None:
        return next(
            (answer for answer in self.answers if not answer.startswith(("1", "2", "trailers"))), None
        )

    def _digest(self, data: bytes) -> Iterable[bytes]:
        self._unread += data
        answers = []
        while len(self._unread) >= 9 and len(self._unread) >= (size := 9 + int.from_bytes(self._unread[:3])):
            kind, flags = self._unread[3], self._unread[4]
            payload = bytes(self._unread[9:size])
            del self._unread[:size]
            if kind == 0x0:
                self._take_data(payload)
            elif kind == 0x1 and flags & END_HEADERS:
                fields = dict(self._decoder.decode(payload, raw=True))
                self.answers[fields.get(b":status", b"trailers").decode()] += 1
            elif kind == 0x3:
                self.answers[f"RST_STREAM {_code(payload)}"] += 1
            elif kind == 0x4 and not flags & 1 and self.acknowledges_settings:
                answers.append(self.frames(Settings(ack=True)))
            elif kind == 0x7:
                self._goaway = f"GOAWAY {_code(payload[4:8])}"
        return answers

    def _take_data(self, data: bytes) -> None:
        """Drop what was read of a body."""

    def _seen(self) -> str:
        return self._goaway or self._refusal or super()._seen()


def _code(payload: bytes) -> str:
    code = int.from_bytes(payload[:4])
    try:
        return ErrorCodes(code).name
    except ValueError:
        return str(code)


class CloseFrame:
    """Looks for a close frame in what a server sends over a WebSocket.

    Attributes:
        code: Its code, once it was there.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self._unread = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what was read (RFC 6455, 5.2)."""
        self._unread += data
        while len(self._unread) >= 2:
            opcode, size = self._unread[0] & 15, self._unread[1]
            extended = {126: 2, 127: 8}.get(size, 0)
            if extended:
                size = int.from_bytes(self._unread[2 : 2 + extended])
            whole = 2 + extended + size
            if len(self._unread) < whole:
                return
            if opcode == 8:
                self.code = int.from_bytes(self._unread[2:4])
            del self._unread[:whole]


class WebSocketIntruder(Intruder):
    """Speaks WebSocket over HTTP/1.1: shakes hands, then sends whatever it likes; answers nothing."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)
        self._close = CloseFrame()

    @classmethod
    async def open(cls, target: Target, path: str, *, deflate: bool = False) -> Self:
        """Connect and shake hands."""
        wire = await target.connect()
        await wire.write(handshake(path, deflate=deflate))
        head = b""
        while b"\r\n\r\n" not in head:
            data = await wire.read()
            if not data:
                raise ConnectionError(f"no handshake: {head!r}")
            head += data
        intruder = cls(wire)
        intruder._close.feed(head.partition(b"\r\n\r\n")[2])
        return intruder

    @property
    def _satisfied(self) -> bool:
        return self._close.code is not None

    def _digest(self, data: bytes) -> Iterable[bytes]:
        self._close.feed(data)
        return ()

    def _seen(self) -> str:
        return f"close {self._close.code}" if self._close.code is not None else super()._seen()


class Http2WebSocketIntruder(Http2Intruder):
    """Speaks WebSocket over HTTP/2, on one stream."""

    def __init__(self, wire: Wire, *, content_with_reset: bool = True) -> None:
        super().__init__(wire, content_with_reset=content_with_reset)
        self._close = CloseFrame()

    @property
    def _satisfied(self) -> bool:
        return self._close.code is not None or super()._satisfied

    def _take_data(self, data: bytes) -> None:
        self._close.feed(data)

    def _seen(self) -> str:
        return f"close {self._close.code}" if self._close.code is not None else super()._seen()


def handshake(path: str, *, deflate: bool = False) -> bytes:
    """Return the request that opens a WebSocket."""
    extension = b"sec-websocket-extensions: permessage-deflate\r\n" if deflate else b""
    return (
        b"GET %s HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: %s\r\n%s\r\n"
    ) % (path.encode(), base64.b64encode(bytes(16)), extension)


def forever(piece: bytes, at_once: int = 1) -> Iterable[bytes]:
    """Repeat a piece without end, so many of them in one write."""
    return itertools.repeat(piece * at_once)
