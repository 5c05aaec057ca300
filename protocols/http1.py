"""Http1Connection: HTTP/1.1 and 1.0 on h11; it is its own Stream.

One request at a time: heads that arrive while a response is under way wait in the buffer, and
reading stops while too much waits. Each request has an h11 connection of its own, which frames
its content and its response and nothing else; which bytes belong to which request is decided here.

Invariants:
- What is parsed from one read is parsed before the application starts, so that for a request
  without content the end has been fed already and `receive()` never suspends.
- Everything written while a read is being handled leaves in one `transport.write`.
- `send(end)` does not begin the next pipelined request by itself: the pump that called the
  application goes on, or the loop calls the pump soon. Nothing recurses.
"""

import asyncio
from collections.abc import Mapping
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

import h11

from ..core.asgi import Fields
from ..core.clock import NEVER
from ..core.errors import Disconnected, StreamFault
from ..core.exchange import Connection, Exchange, Head, Stream, Waiters
from ..core.http import HttpExchange
from ..core.log import error_log, format_address
from ..core.scope import ConnectionFacts, http_scope, websocket_scope
from ..core.websocket import WebSocketExchange
from ..core.worker import Worker
from .http1_head import Http1Request, check_unfinished, read_head
from .lingering import Lingering
from .sendfile import CAN_SEND_FILES, send_file

_FILES: Final[dict[str, dict[str, Any]]] = (
    {"http.response.pathsend": {}, "http.response.zerocopysend": {}} if CAN_SEND_FILES else {}
)
_EXTENSIONS_10: Final = _FILES
_EXTENSIONS_11: Final = {**_FILES, "http.response.early_hint": {}, "http.response.trailers": {}}
_EXTENSIONS_WEBSOCKET: Final[dict[str, dict[str, Any]]] = {"websocket.http.response": {}}

_REASONS: Final = {status.value: status.phrase.encode() for status in HTTPStatus}

# Unread content that is cheaper to read and drop than to open a new connection for (Go: 256 KiB).
_MAX_DRAIN: Final = 256 * 1024
# How long a client may take to read the rest of an answer after which the connection closes.
_CLOSE_SECONDS: Final = 30.0


class Phase(Enum):
    """What the bytes that arrive now belong to."""

    HEAD = "the next request head"
    CONTENT = "the content of the current request"
    ANSWERING = "requests that wait for the current one"
    TUNNEL = "a WebSocket"
    CLOSED = "nobody: the connection is closing or closed"


class Http1Connection(asyncio.Protocol):
    """One HTTP/1 connection: asyncio's protocol, the server's `Connection`, the core's `Stream`."""

    __slots__ = (
        "_buffer",
        "_drained",
        "_eof",
        "_exchange",
        "_facts",
        "_full",
        "_keep_alive",
        "_out",
        "_out_bytes",
        "_paused",
        "_phase",
        "_pumping",
        "_request",
        "_room",
        "_served",
        "_transport",
        "_unread",
        "_worker",
        "deadline",
    )

    id: Final = 0

    def __init__(self, worker: Worker, facts: ConnectionFacts) -> None:
        # Fixed.
        self._worker = worker
        self._facts = facts
        self._transport: asyncio.Transport
        # This connection.
        self._buffer = bytearray()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._phase = Phase.HEAD
        self._pumping = False
        self._paused = False
        self._full = False
        self._room = Waiters()
        self._eof = False
        self._served = 0
        self.deadline = NEVER
        # This request.
        self._request: Http1Request | None = None
        self._exchange: Exchange | None = None
        self._keep_alive = True
        self._unread = 0
        self._drained = 0

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request head."""
        # uvloop's transports do not derive from asyncio's classes.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=self._worker.config.write_high_mark)
        self._worker.connections.add(self)
        self._worker.clock.watch(self)
        self.deadline = self._worker.clock.now() + self._worker.config.head_timeout

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        if self._phase is Phase.TUNNEL:
            self._feed(data)
        elif self._phase is not Phase.CLOSED:
            self._buffer += data
            self._pump()

    def eof_received(self) -> bool:
        """Take the end of the client's sending; a half-closed client still gets its answers."""
        self._eof = True
        if self._phase is Phase.CONTENT:
            self._lose_exchange()
            return False
        if self._exchange is not None:
            self._exchange.feed_eof()
            # asyncio cannot half-close TLS; it warns if asked to.
            return not self._facts.secure
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything: the connection is gone."""
        self._phase = Phase.CLOSED
        self._leave()
        self._full = False
        self._room.wake()
        self._lose_exchange()

    def pause_writing(self) -> None:
        """Learn that the client reads too slowly."""
        self._full = True

    def resume_writing(self) -> None:
        """Learn that there is room again."""
        self._full = False
        self._room.wake()
        if self._exchange is not None:
            self._exchange.resume()

    # ------------------------------------------------------------------ for the server

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return self._exchange is None

    def shutdown(self) -> None:
        """Close now if idle, else after the response under way, which says `connection: close`."""
        self._keep_alive = False
        if self._exchange is not None:
            self._exchange.shutdown()
        elif self._phase is Phase.HEAD:
            self._close()

    def terminate(self) -> None:
        """Close at once, whatever is under way."""
        self._transport.abort()

    def expire(self) -> None:
        """Act on a deadline: no request head in time, an idle connection, a client that lingers."""
        self.deadline = NEVER
        if self._phase is Phase.HEAD and self._buffer:
            self._refuse(StreamFault(HTTPStatus.REQUEST_TIMEOUT, "no complete request head in time"))
        elif self._phase is Phase.HEAD:
            self._close()
        else:
            self._transport.abort()

    # ------------------------------------------------------------------ Stream

    @property
    def extensions(self) -> Mapping[str, dict[str, Any]]:
        """What works for the current request."""
        request = self._request
        if request is None or request.upgrade:
            return _EXTENSIONS_WEBSOCKET
        return _EXTENSIONS_11 if request.head.http_version == "1.1" else _EXTENSIONS_10

    @property
    def writable(self) -> bool:
        """Whether the transport has room."""
        return not self._full

    @property
    def zero_copy(self) -> bool:
        """Whether the kernel can send files: not through TLS."""
        return CAN_SEND_FILES and not self._facts.secure

    def send(self, head: Head | None, body: bytes, end: bool) -> None:
        """Send a part of the response, framed by h11 (RFC 9112, 6)."""
        if self._phase is Phase.TUNNEL:
            self._write(body)
            if end:
                self._close()
            return
        if self._request is None:
            return
        framer = self._request.framer
        parts: list[bytes] = []
        if head is not None:
            parts.append(_sent(framer, self._framed_head(self._request, head, end=end)))
        if head is not None and head.status == HTTPStatus.SWITCHING_PROTOCOLS:
            self._write(b"".join(parts))
            self._begin_tunnel(framer)
            return
        if body:
            parts.append(_sent(framer, h11.Data(data=body)))
        if end:
            parts.append(_sent(framer, h11.EndOfMessage()))
        self._write(b"".join(parts))
        if end:
            self._end_exchange()

    def send_informational(self, status: int, fields: Fields) -> None:
        """Send a 1xx head; never to HTTP/1.0, which would take it for the answer."""
        request = self._request
        if request is not None and request.head.http_version == "1.1":
            self._write(_sent(request.framer, h11.InformationalResponse(status_code=status, headers=fields)))

    def send_trailers(self, fields: Fields) -> None:
        """End the response with a trailer section; without chunks there is no place for one."""
        if self._request is None:
            return
        framer = self._request.framer
        try:
            data = _sent(framer, h11.EndOfMessage(headers=fields))
        except h11.LocalProtocolError:
            data = _sent(framer, h11.EndOfMessage())
        self._write(data)
        self._end_exchange()

    async def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Let the kernel send a part of a file; h11 frames it without seeing it."""
        assert self._request is not None
        # With a length that stands for the file, h11 gives the bytes before and after it.
        pieces = self._request.framer.send_with_data_passthrough(h11.Data(data=_FileLength(count)))  # type: ignore[arg-type]
        assert pieces is not None
        after = False
        sent = 0
        for piece in pieces:
            if isinstance(piece, _FileLength):
                await self._wait_sent()
                sock = self._transport.get_extra_info("socket")
                sent = await send_file(sock, self._wait_room, descriptor, offset, count)
                after = True
            elif not after or sent == count:
                self._write(piece)
        return sent

    def push(self, path: bytes, fields: Fields) -> None:
        """Do nothing: HTTP/1 has no push, and does not say so in its extensions."""

    def pull(self, taken: int) -> None:
        """Take credit; before the application waits, ask for the content (RFC 9110, 10.1.1)."""
        if taken:
            self._unread -= taken
            self._resume_reading()
        elif self._request is not None and self._request.framer.they_are_waiting_for_100_continue:
            self.send_informational(HTTPStatus.CONTINUE, [])

    def abort(self) -> None:
        """Cut the response so that no client can take it for complete.

        Without chunks or a length an orderly close would say that it is (RFC 9112, 6.3): a reset.
        """
        ends_by_close = self._request is not None and self._request.head.http_version == "1.0"
        if ends_by_close:
            self._flush()
            self._transport.abort()
        else:
            self._close()

    # ------------------------------------------------------------------ reading

    def _pump(self) -> None:
        """Go on with what is in the buffer, until there is nothing more to be done with it."""
        if self._pumping:
            return
        self._pumping = True
        try:
            while self._buffer and self._step():
                pass
        finally:
            self._pumping = False
            self._flush()
        if self._phase is Phase.HEAD and self._eof:
            self._close()

    def _pump_soon(self) -> None:
        if not self._pumping and (self._buffer or self._eof):
            self._worker.loop.call_soon(self._pump)

    def _step(self) -> bool:
        if self._phase is Phase.HEAD:
            return self._read_head()
        if self._phase is Phase.CONTENT:
            return self._read_content()
        self._pause_reading_if(len(self._buffer))
        return False

    def _read_head(self) -> bool:
        buffer, config = self._buffer, self._worker.config
        while buffer.startswith(b"\r\n"):  # RFC 9112, 2.2: an empty line before a request is ignored.
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n")
        try:
            if end < 0:
                check_unfinished(buffer, config.max_head_bytes)
                self._expect_rest_of_head()
                return False
            raw = bytes(buffer[: end + 4])
            request = read_head(raw, max_head_bytes=config.max_head_bytes, max_fields=config.max_fields)
        except StreamFault as fault:
            self._refuse(fault)
            return False
        del buffer[: end + 4]
        self._begin(request)
        return True

    def _expect_rest_of_head(self) -> None:
        """Start the deadline of a head with its first byte; the first head's runs from the start."""
        if self._served and self._buffer and self.deadline != NEVER:
            self.deadline = min(self.deadline, self._worker.clock.now() + self._worker.config.head_timeout)

    def _begin(self, request: Http1Request) -> None:
        """Make the exchange of a request, feed it what is here already, then start the application."""
        self.deadline = NEVER
        self._served += 1
        self._request = request
        self._keep_alive = self._keep_alive and request.keep_alive and not self._worker.closing
        self._unread = self._drained = 0
        self._phase = Phase.CONTENT
        exchange = self._open_exchange(request)
        if exchange is None:
            return
        self._exchange = exchange
        self._read_content()
        if self._exchange is exchange:
            self._worker.dispatcher.start(exchange)

    def _open_exchange(self, request: Http1Request) -> HttpExchange | WebSocketExchange | None:
        worker, head = self._worker, request.head
        if not request.upgrade:
            return HttpExchange(worker, self, http_scope(self._facts, head, self.extensions))
        try:
            handshake = worker.open_handshake(head.fields, head.http_version, worker.config)
        except StreamFault as fault:
            self._refuse(fault)
            return None
        scope = websocket_scope(self._facts, head, self.extensions, handshake.subprotocols)
        return WebSocketExchange(worker, self, scope, handshake)

    def _read_content(self) -> bool:
        """Feed the current request what the buffer has of it; true if its end was reached."""
        assert self._request is not None
        framer = self._request.framer
        if self._buffer:
            framer.receive_data(bytes(self._buffer))
            self._buffer.clear()
        try:
            while self._phase is Phase.CONTENT:
                event = framer.next_event()
                if isinstance(event, h11.Data):
                    self._feed(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    self._end_content(framer)
                    return True
                else:
                    return False
        except h11.RemoteProtocolError as error:
            self._refuse(StreamFault(error.error_status_hint, str(error)))
        return False

    def _feed(self, data: bytes) -> None:
        if self._exchange is None:
            self._drain(len(data))
            return
        self._unread += len(data)
        self._exchange.feed(data)
        self._pause_reading_if(self._unread)

    def _end_content(self, framer: h11.Connection) -> None:
        self._buffer[:0] = framer.trailing_data[0]
        if self._exchange is None:
            self._next_request()
        elif self._request is not None and not self._request.upgrade:
            self._phase = Phase.ANSWERING
            self._exchange.feed_end()
        else:
            self._phase = Phase.ANSWERING

    def _pause_reading_if(self, waiting: int) -> None:
        if waiting >= self._worker.config.stream_window and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._paused and self._unread < self._worker.config.stream_window // 2:
            self._paused = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def _drain(self, length: int) -> None:
        """Drop content that nobody will read, but not for ever."""
        self._drained += length
        if self._drained > _MAX_DRAIN:
            self._linger()

    # ------------------------------------------------------------------ writing

    def _framed_head(
        self, request: Http1Request, head: Head, *, end: bool
    ) -> h11.Response | h11.InformationalResponse:
        if head.status == HTTPStatus.SWITCHING_PROTOCOLS:
            return h11.InformationalResponse(status_code=101, headers=head.fields, reason=_REASONS[101])
        fields = head.fields
        # Content that the client was never asked for may or may not come: only closing is safe.
        unasked = end and request.framer.they_are_waiting_for_100_continue
        if head.close or unasked or not self._keep_alive:
            self._keep_alive = False
            fields = [*fields, (b"connection", b"close")]
        return h11.Response(status_code=head.status, headers=fields, reason=_REASONS.get(head.status, b""))

    def _write(self, data: bytes) -> None:
        if not data:
            return
        if self._pumping:
            self._out.append(data)
            self._out_bytes += len(data)
            # An application that never waits says all it has to say within one pump: from here on the
            # transport has to count, or nothing would ever tell it that the client does not read.
            if self._out_bytes >= self._worker.config.write_high_mark:
                self._flush()
        elif not self._transport.is_closing():
            self._transport.write(data)

    def _flush(self) -> None:
        if self._out:
            data = b"".join(self._out)
            self._out.clear()
            self._out_bytes = 0
            if not self._transport.is_closing():
                self._transport.write(data)

    async def _wait_sent(self) -> None:
        """Wait until the transport has handed everything to the kernel."""
        self._flush()
        self._transport.set_write_buffer_limits(high=0)
        while self._full:
            await self._room.wait()
        self._check_open()
        self._transport.set_write_buffer_limits(high=self._worker.config.write_high_mark)

    async def _wait_room(self, descriptor: int) -> None:
        """Wait until the kernel takes more for a descriptor of this connection."""
        self._worker.loop.add_writer(descriptor, self._room.wake)
        try:
            await self._room.wait()
        finally:
            self._worker.loop.remove_writer(descriptor)
        self._check_open()

    def _check_open(self) -> None:
        if self._phase is Phase.CLOSED:
            raise Disconnected("the client has gone")

    # ------------------------------------------------------------------ endings

    def _end_exchange(self) -> None:
        """Go on after a complete response: the next request, the rest of this one, or the end."""
        self._exchange = None
        if self._phase is Phase.CONTENT:
            self._unread = 0
            if self._keep_alive:
                self._resume_reading()  # drain what is left of the content
            else:
                self._linger()
        elif self._phase is Phase.ANSWERING:
            self._next_request()

    def _next_request(self) -> None:
        assert self._request is not None
        keep_alive = self._keep_alive and self._request.framer.our_state is h11.DONE
        self._request = None
        if not keep_alive:
            self._close()
            return
        self._phase = Phase.HEAD
        self._unread = 0
        self._resume_reading()
        self.deadline = self._worker.clock.now() + self._worker.config.keep_alive_timeout
        self._pump_soon()

    def _begin_tunnel(self, framer: h11.Connection) -> None:
        self._phase = Phase.TUNNEL
        early = bytes(self._buffer)
        self._buffer.clear()
        self._resume_reading()
        if early:
            self._feed(early)

    def _refuse(self, fault: StreamFault) -> None:
        """Answer a request that is not one, if nothing was answered yet, and close."""
        error_log.debug("%s refused: %d %s", format_address(self._facts.client), fault.code, fault)
        self._buffer.clear()
        answered = self._request is not None and self._request.framer.our_state is not h11.SEND_RESPONSE
        if not answered:
            self._out.append(self._plain_answer(fault))
        exchange, self._exchange = self._exchange, None
        if answered:
            self._flush()
            self.abort()
        else:
            self._linger()
        if exchange is not None:
            exchange.lost()

    def _plain_answer(self, fault: StreamFault) -> bytes:
        """Write a whole answer without h11, which would not answer what it could not read."""
        text = b"%s: %s\n" % (_REASONS[fault.code], str(fault).encode("ascii", "replace"))
        lines = [
            b"HTTP/1.1 %d %s" % (fault.code, _REASONS[fault.code]),
            b"date: " + self._worker.clock.date,
            b"content-type: text/plain; charset=utf-8",
            b"content-length: %d" % len(text),
            b"connection: close",
        ]
        if fault.code == HTTPStatus.UPGRADE_REQUIRED:
            lines += [b"upgrade: websocket", b"sec-websocket-version: 13"]
        if self._worker.server_field is not None:
            lines.append(b"server: " + self._worker.server_field[1])
        return b"\r\n".join(lines) + b"\r\n\r\n" + text

    def _linger(self) -> None:
        """Close, but read on for a while, for the client may still be sending."""
        self._phase = Phase.CLOSED
        self._flush()
        self._leave()
        Lingering(self._transport, self._worker.clock, paused=self._paused)

    def _close(self) -> None:
        """Close as soon as everything is sent."""
        self._phase = Phase.CLOSED
        self._flush()
        self._transport.close()
        self.deadline = self._worker.clock.now() + _CLOSE_SECONDS

    def _leave(self) -> None:
        self.deadline = NEVER
        self._worker.leave(self)
        self._worker.clock.forget(self)

    def _lose_exchange(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost()


class _FileLength:
    """Stands for the bytes of a file that the kernel will send: h11 asks only for its length."""

    __slots__ = ("_length",)

    def __init__(self, length: int) -> None:
        self._length = length

    def __len__(self) -> int:
        return self._length


def _sent(framer: h11.Connection, event: h11.Event) -> bytes:
    return framer.send(event) or b""


if TYPE_CHECKING:
    _stream: type[Stream] = Http1Connection
    _connection: type[Connection] = Http1Connection
