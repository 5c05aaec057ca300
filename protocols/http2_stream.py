"""Http2Stream: the core's Stream on one HTTP/2 stream, with what it has yet to send.

It holds at most the high mark and one message; the connection takes frames out of it as windows
and turns allow. Knows no transport.
"""

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from ..core.asgi import Fields
from ..core.exchange import CLOSED, Exchange, Head, Stream
from .http2_schedule import DEFAULT, Priority


class Carrier(Protocol):
    """What a stream asks of its connection."""

    @property
    def push_allowed(self) -> bool:
        """Whether the client accepts pushes now."""

    def send_head(self, stream: "Http2Stream", fields: Fields, *, end: bool) -> None:
        """Send a HEADERS frame with these fields, pseudo-header fields included."""

    def schedule(self, stream: "Http2Stream") -> None:
        """Send what the stream holds, when it is its turn."""

    def credit(self, stream: "Http2Stream", taken: int) -> None:
        """Give window back to the client for bytes that the application took."""

    def reset(self, stream: "Http2Stream") -> None:
        """Reset the stream, because our side failed."""

    def promise(self, stream: "Http2Stream", path: bytes, fields: Fields) -> None:
        """Send PUSH_PROMISE and start the application for it."""


_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.trailers": {},
    "http.response.zerocopysend": {},
}
_EXTENSIONS_PUSH: Final = {**_EXTENSIONS, "http.response.push": {}}
_EXTENSIONS_WEBSOCKET: Final[dict[str, dict[str, Any]]] = {"websocket.http.response": {}}


class Http2Stream:
    """One stream of one connection.

    Attributes:
        exchange: The core's half; None once it has been told that the stream is gone.
        receiving: Whether the client may still send on it.
        blocked: Whether its window is used up.
    """

    __slots__ = (
        "_carrier",
        "_ended",
        "_expects_continue",
        "_high_mark",
        "_pending",
        "_pending_bytes",
        "_trailers",
        "authority",
        "blocked",
        "exchange",
        "id",
        "priority",
        "receiving",
        "tunnel",
        "waits_for_room",
    )

    zero_copy: Final = False

    def __init__(self, carrier: Carrier, stream_id: int, high_mark: int) -> None:
        # Fixed.
        self._carrier = carrier
        self._high_mark = high_mark
        self.id = stream_id
        self.authority = b""
        self.tunnel = False
        # The request.
        self.exchange: Exchange | None = None
        self.receiving = True
        self._expects_continue = False
        # The response.
        self.priority: Priority = DEFAULT
        self.blocked = False
        self.waits_for_room = False
        self._pending: deque[memoryview] = deque()
        self._pending_bytes = 0
        self._trailers: Fields | None = None
        self._ended = False

    # ------------------------------------------------------------------ Stream

    @property
    def extensions(self) -> Mapping[str, dict[str, Any]]:
        """What works on this stream."""
        if self.tunnel:
            return _EXTENSIONS_WEBSOCKET
        # A pushed stream, which has an even number, cannot push (RFC 9113, 8.4).
        return _EXTENSIONS_PUSH if self.id % 2 and self._carrier.push_allowed else _EXTENSIONS

    @property
    def writable(self) -> bool:
        """Whether less than the high mark waits to be sent."""
        if self._pending_bytes < self._high_mark:
            return True
        self.waits_for_room = True
        return False

    def send(self, head: Head | None, body: bytes, end: bool) -> None:
        """Send a part of the response, as windows and turns allow."""
        if head is not None:
            fields = [(b":status", b"%d" % head.status), *head.fields]
            self._expects_continue = False
            if end and not body:
                self._ended = True
                self._carrier.send_head(self, fields, end=True)
                return
            self._carrier.send_head(self, fields, end=False)
        if body:
            self._pending.append(memoryview(body))
            self._pending_bytes += len(body)
        self._ended = self._ended or end
        if body or end:
            self._carrier.schedule(self)

    def send_informational(self, status: int, fields: Fields) -> None:
        """Send a 1xx head (RFC 9113, 8.1)."""
        self._carrier.send_head(self, [(b":status", b"%d" % status), *fields], end=False)

    def send_trailers(self, fields: Fields) -> None:
        """End the response with a HEADERS frame, behind everything that still waits."""
        self._trailers = fields
        self._ended = True
        self._carrier.schedule(self)

    async def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Never called: frames are made in user space, so `zero_copy` is false."""
        raise NotImplementedError

    def push(self, path: bytes, fields: Fields) -> None:
        """Promise a response to a GET of `path`; nothing if the client has changed its mind."""
        self._carrier.promise(self, path, fields)

    def pull(self, taken: int) -> None:
        """Give credit back; before the application waits, ask for the content (RFC 9110, 10.1.1)."""
        if taken:
            self._carrier.credit(self, taken)
        elif self._expects_continue:
            self._expects_continue = False
            self.send_informational(100, [])

    def abort(self) -> None:
        """Reset the stream: no client takes that for a complete response."""
        self._carrier.reset(self)

    # ------------------------------------------------------------------ for the connection

    def expect_continue(self) -> None:
        """Remember that the client waits for 100 before it sends its content."""
        self._expects_continue = True

    @property
    def has_work(self) -> bool:
        """Whether there is anything to send."""
        return self._pending_bytes > 0 or self._ended

    @property
    def next_size(self) -> int:
        """How many bytes of content wait."""
        return self._pending_bytes

    def take(self, limit: int) -> tuple[bytes, bool]:
        """Take content for one frame.

        Args:
            limit: The most bytes that fit the frame and the windows.

        Returns:
            The content, and whether it ends the response.
        """
        parts: list[memoryview] = []
        room = limit
        while room and self._pending:
            part = self._pending[0]
            if len(part) <= room:
                self._pending.popleft()
            else:
                self._pending[0] = part[room:]
                part = part[:room]
            room -= len(part)
            parts.append(part)
        self._pending_bytes -= limit - room
        content = bytes(parts[0]) if len(parts) == 1 else b"".join(parts)
        return content, self._ended and not self._pending_bytes and self._trailers is None

    @property
    def due_trailers(self) -> Fields | None:
        """The trailers, once nothing else waits."""
        return None if self._pending_bytes else self._trailers

    def refill(self) -> None:
        """Wake a waiting application when there is room again."""
        if self.waits_for_room and self._pending_bytes < self._high_mark:
            self.waits_for_room = False
            if self.exchange is not None:
                self.exchange.resume()

    def lose(self) -> None:
        """Tell the exchange that the stream is gone."""
        self._pending.clear()
        self._pending_bytes = 0
        self._carrier = _GONE
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.lost()


class _GoneCarrier:
    """The connection of a stream that is gone: does nothing."""

    push_allowed: Final = False

    def send_head(self, stream: Http2Stream, fields: Fields, *, end: bool) -> None: ...

    def schedule(self, stream: Http2Stream) -> None: ...

    def credit(self, stream: Http2Stream, taken: int) -> None: ...

    def reset(self, stream: Http2Stream) -> None: ...

    def promise(self, stream: Http2Stream, path: bytes, fields: Fields) -> None: ...


_GONE: Final = _GoneCarrier()

if TYPE_CHECKING:
    _stream: type[Stream] = Http2Stream
