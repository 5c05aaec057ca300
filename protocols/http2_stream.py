"""Http2Stream: the core's Stream on one HTTP/2 stream, with what it has yet to send.

It holds at most the high mark and one message; the connection takes frames out of it as windows
and turns allow. Heads, and ends that wait for nothing, do not wait for a turn: only content is
subject to flow control (RFC 9113, 5.2.1). Knows no transport.
"""

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from h2.errors import ErrorCodes

from ..core.asgi import Fields
from ..core.exchange import Head, Stream
from ..core.http import HttpExchange
from ..core.websocket import WebSocketExchange
from .http2_events import section_of
from .http2_request import Http2Request
from .http2_schedule import DEFAULT, Priority, parse_priority

AnyExchange: TypeAlias = HttpExchange | WebSocketExchange


class Carrier(Protocol):
    """What a stream asks of its connection."""

    @property
    def push_allowed(self) -> bool:
        """Whether the client accepts a push now."""

    def send_head(self, stream: "Http2Stream", fields: Fields, *, end: bool) -> None:
        """Send HEADERS with these fields, pseudo-header fields included."""

    def send_whole(self, stream: "Http2Stream", head: Head, content: bytes) -> bool:
        """Send a whole response, if it need not wait for anything; tell whether it was sent."""

    def send_message(self, stream: "Http2Stream", content: bytes) -> bool:
        """Send a message of a WebSocket, if it need not wait for anything; tell whether it was sent."""

    def send_end(self, stream: "Http2Stream") -> None:
        """End a response that has nothing left to send, with an empty DATA frame."""

    def schedule(self, stream: "Http2Stream") -> None:
        """Send the content that the stream holds, when it is its turn."""

    def credit(self, stream: "Http2Stream", taken: int) -> None:
        """Give window back to the client for bytes that the application took."""

    def expect(self, stream: "Http2Stream") -> None:
        """Expect the client to send: the application waits for it."""

    def reset(self, stream: "Http2Stream", code: ErrorCodes) -> None:
        """Reset the stream, for a reason of our own."""

    def promise(self, stream: "Http2Stream", path: bytes, fields: Fields) -> None:
        """Send PUSH_PROMISE and start the application for it."""


class Http2Stream:
    """One stream of one connection.

    Attributes:
        exchange: The core's half; None as long as there is none, and once the two have let go of each other.
        receiving: Whether the client may still send on it.
        length: The announced length of the request's content in bytes, or None.
        received: How much of the content has arrived, in bytes.
        owed: How many of these bytes the client has not got its window back for.
        expects_continue: Whether the client waits for 100 before it sends its content (RFC 9110, 10.1.1).
        begun: Whether the head of the response has been sent.
        sent: How much content of the response has been taken, in bytes.
        pending_bytes: How much waits to be sent.
        blocked: Whether its window is used up.
        ended: Whether what it holds is the end of the response.
        trailers: What comes behind the content.
    """

    __slots__ = (
        "_carrier",
        "_high_mark",
        "_pending",
        "_waits_for_room",
        "authority",
        "begun",
        "blocked",
        "ended",
        "exchange",
        "expects_continue",
        "id",
        "length",
        "owed",
        "pending_bytes",
        "priority",
        "received",
        "receiving",
        "sent",
        "trailers",
        "tunnel",
    )

    zero_copy: Final = False

    def __init__(self, carrier: Carrier, stream_id: int, high_mark: int, receiving: bool) -> None:
        # Fixed.
        self._carrier = carrier
        self._high_mark = high_mark
        self.id = stream_id
        self.authority = b""
        self.tunnel = False
        # The request.
        self.exchange: AnyExchange | None = None
        self.receiving = receiving
        self.length: int | None = None
        self.received = 0
        self.owed = 0
        self.expects_continue = False
        # The response.
        self.priority: Priority = DEFAULT
        self.begun = False
        self.sent = 0
        self.blocked = False
        self.ended = False
        self.trailers: Fields | None = None
        self._waits_for_room = False
        self._pending: deque[memoryview] | None = None  # most responses never wait
        self.pending_bytes = 0

    # ------------------------------------------------------------------ Stream

    def new_extensions(self) -> dict[str, dict[str, Any]]:
        """Return what works on this stream."""
        if self.tunnel:
            return {"websocket.http.response": {}}
        extensions: dict[str, dict[str, Any]] = {
            "http.response.pathsend": {},
            "http.response.trailers": {},
            "http.response.zerocopysend": {},
        }
        if self.id % 2:  # a pushed stream cannot push (RFC 9113, 8.4); and h2 has no interim responses on one
            extensions["http.response.early_hint"] = {}
            if self._carrier.push_allowed:
                extensions["http.response.push"] = {}
        return extensions

    @property
    def writable(self) -> bool:
        """Whether less than the high mark waits to be sent."""
        if self.pending_bytes < self._high_mark:
            return True
        self._waits_for_room = True
        return False

    def send(self, head: Head | None, body: bytes, end: bool) -> None:
        """Send a part of the response, as windows and turns allow."""
        if head is not None:
            if end and body and self._carrier.send_whole(self, head, body):
                return
            self.expects_continue = False
            self.begun = True
            self._carrier.send_head(self, section_of(head), end=end and not body)
        self.ended = end
        if body:
            if self.tunnel and not end and not self.pending_bytes and self._carrier.send_message(self, body):
                return
            if self._pending is None:
                self._pending = deque()
            self._pending.append(memoryview(body))
            self.pending_bytes += len(body)
            self._carrier.schedule(self)
        elif end and head is None and not self.pending_bytes:
            self._carrier.send_end(self)

    def send_informational(self, status: int, fields: Fields) -> None:
        """Send a 1xx head (RFC 9113, 8.1)."""
        self._carrier.send_head(self, [(b":status", b"%d" % status), *fields], end=False)

    def send_trailers(self, fields: Fields) -> None:
        """End the response with the trailer section, behind everything that still waits."""
        self.ended = True
        if self.pending_bytes:
            self.trailers = fields
        else:
            self._carrier.send_head(self, fields, end=True)

    async def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Fail: frames are made in user space, so `zero_copy` is false, and nobody may ask for this."""
        raise AssertionError("send_file is for wires with zero_copy")

    def push(self, path: bytes, fields: Fields) -> None:
        """Promise a response to a GET of `path`; nothing if the client has changed its mind."""
        self._carrier.promise(self, path, fields)

    def pull(self, taken: int) -> None:
        """Give credit back; before the application waits, ask for the content."""
        if taken:
            self._carrier.credit(self, taken)
            return
        if self.receiving and not self.begun:
            self._carrier.expect(self)
        if self.expects_continue:
            self.expects_continue = False
            self.send_informational(100, [])

    def refuse(self) -> bool:
        """Reset the stream with the code that says that it is safe to try again (RFC 9113, 8.7)."""
        self._carrier.reset(self, ErrorCodes.REFUSED_STREAM)
        return True

    def abort(self) -> None:
        """Reset the stream: no client takes that for a complete response."""
        self._carrier.reset(self, ErrorCodes.INTERNAL_ERROR)

    # ------------------------------------------------------------------ for the connection

    @property
    def awaits_content(self) -> bool:
        """Whether the application can do nothing until the client sends more of the request's content.

        Once the response has begun, the two may take turns as they like; so may those in a tunnel.
        """
        if not self.receiving or self.begun or self.tunnel or self.owed:
            return False
        return self.exchange is not None and self.exchange.waiting

    def take_hints(self, request: Http2Request) -> None:
        """Keep what the head of the request says about how to answer."""
        self.authority = request.fields[0][1]
        if request.priority is not None:
            self.priority = parse_priority(request.priority)
        self.expects_continue = request.expects_continue

    def take(self, limit: int) -> bytes | memoryview:
        """Take the content of one turn, which is cut as needed, and joined where it has several parts.

        Args:
            limit: The most bytes that fit the turn and the windows.
        """
        parts: list[memoryview] = []
        pending, room = self._pending, limit
        while room and pending:
            part = pending[0]
            if len(part) <= room:
                pending.popleft()
            else:
                pending[0] = part[room:]  # a view: nothing is copied until it is its turn
                part = part[:room]
            room -= len(part)
            parts.append(part)
        self.pending_bytes -= limit - room
        self.sent += limit - room
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def refill(self) -> None:
        """Wake a waiting application when there is room again."""
        if self._waits_for_room and self.pending_bytes < self._high_mark:
            self._waits_for_room = False
            if self.exchange is not None:
                self.exchange.resume()

    def let_go(self) -> None:
        """Part from a connection that has no more use for this stream, and from the exchange.

        An exchange that is still there has lost its client, and is told.
        """
        self._carrier = _GONE
        self._pending = None
        self.pending_bytes = 0
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.lost()


class _GoneCarrier:
    """The connection of a stream that is gone: does nothing."""

    push_allowed: Final = False

    def send_head(self, stream: Http2Stream, fields: Fields, *, end: bool) -> None: ...

    def send_whole(self, stream: Http2Stream, head: Head, content: bytes) -> bool:
        return True

    def send_message(self, stream: Http2Stream, content: bytes) -> bool:
        return True

    def send_end(self, stream: Http2Stream) -> None: ...

    def schedule(self, stream: Http2Stream) -> None: ...

    def credit(self, stream: Http2Stream, taken: int) -> None: ...

    def expect(self, stream: Http2Stream) -> None: ...

    def reset(self, stream: Http2Stream, code: ErrorCodes) -> None: ...

    def promise(self, stream: Http2Stream, path: bytes, fields: Fields) -> None: ...


_GONE: Final = _GoneCarrier()

if TYPE_CHECKING:
    _stream: type[Stream] = Http2Stream
