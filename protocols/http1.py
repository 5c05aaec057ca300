"""Http1Connection: HTTP/1.1 and 1.0 on h11; it is its own Stream.

One request at a time: heads that arrive while a response is under way wait in the buffer, and
reading stops while too much waits. Which bytes belong to which request is decided in
`http1_heads` and `http1_content`, how a response is framed in `http1_response`; what happens when
is decided here; what is written passes through `http1_output`.

Invariants:
- What is parsed from one read is parsed before the application starts, so that for a request
  without content the end has been fed already and `receive()` never suspends.
- Everything written while a read is being handled leaves in one `transport.write`, unless it is much.
- `send(end)` does not begin the next pipelined request by itself: the pump that called the
  application goes on, or the loop calls the pump soon. Nothing recurses.
- No request begins while its client does not read the answers to the ones before.
"""

import asyncio
import socket
import struct
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, cast

from ..core.asgi import Fields
from ..core.clock import NEVER, Timed
from ..core.errors import StreamFault
from ..core.exchange import Connection, Exchange, Head, Stream
from ..core.limits import LEAST_RATE, Pace
from ..core.log import error_log, format_address
from ..core.opening import open_exchange, tell_refusal
from ..core.scope import ConnectionFacts
from ..core.worker import Worker
from .http1_content import check_length
from .http1_heads import Heads
from .http1_output import Output
from .http1_plain import NO_CONTENT
from .http1_request import Http1Request, Response
from .http1_response import refusal
from .lingering import Lingering
from .sendfile import CAN_SEND_FILES, send_file

# Pipelined requests that are begun before others get their turn: a millisecond of them, or two.
_REQUESTS_PER_TURN: Final = 32
# Bytes of a WebSocket that take a millisecond or two to unmask.
_LARGE_READ: Final = 128 * 1024
_RESET: Final = struct.pack("ii", 1, 0)


class Phase(Enum):
    """What the bytes that arrive now belong to."""

    IDLE = "the next request, of which nothing has been read"
    HEAD = "a request head"
    CONTENT = "the content of the current request"
    ANSWERING = "requests that wait for the current one"
    TUNNEL = "a WebSocket"
    CLOSED = "nobody: the connection is closing or closed"


# By names of their own, because `Phase.IDLE` takes four times as long, on Python 3.11 ten times.
_IDLE, _HEAD, _CONTENT, _ANSWERING, _TUNNEL, _CLOSED = Phase
_BETWEEN: Final = (_IDLE, _HEAD)


class Http1Connection(asyncio.Protocol):
    """One HTTP/1 connection: asyncio's protocol, the server's `Connection`, the core's `Stream`."""

    __slots__ = (
        "_behind",
        "_buffer",
        "_drained",
        "_eof",
        "_exchange",
        "_facts",
        "_heads",
        "_keep_alive",
        "_output",
        "_pace",
        "_paused",
        "_phase",
        "_pump_due",
        "_request",
        "_requests",
        "_response",
        "_transport",
        "_unread",
        "_worker",
        "deadline",
    )
    __deletable__ = ("_heads", "_request", "_response")

    id: Final = 0

    def __init__(self, worker: Worker, facts: ConnectionFacts) -> None:
        # Fixed.
        self._worker = worker
        self._facts = facts
        self._transport: asyncio.Transport
        # This connection: what comes in.
        self._heads = Heads(worker.config)
        self._phase = _HEAD
        self._buffer = bytearray()
        self._behind = False  # chunks are left for another turn
        self._eof = False
        self._paused = False
        self._pump_due = False
        self._requests = 0
        self._keep_alive = True
        # This connection: what goes out.
        self._output: Output
        self.deadline = NEVER
        # This request.
        self._request: Http1Request
        self._response: Response
        self._exchange: Exchange | None = None
        self._pace: Pace | None = None  # while its content is waited for, before there is an answer
        self._unread = 0
        self._drained = 0

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request head."""
        # uvloop's transports do not derive from asyncio's classes.
        self._transport = transport = cast(asyncio.Transport, transport)
        self._output = Output(transport, self._worker.config.write_high_mark)
        self._worker.join(self, self._facts.limited_client)
        self._worker.clock.watch(self)
        self._set_deadline(self._worker.config.head_timeout)

    def data_received(self, data: bytes) -> None:
        """Take what the client sent."""
        if self._phase is _TUNNEL:
            self._feed(data)
            self._balance_reading()
            if len(data) >= _LARGE_READ:
                self._read_on_later()
        elif self._phase is _CONTENT and not self._buffer and self._request.content.take(data):
            self._take_content(data)
            self._balance_reading()
        elif self._phase is not _CLOSED and not self._read_alone(data):
            self._buffer += data
            if self._pump_due:
                self._balance_reading()
            else:
                self._pump()

    def eof_received(self) -> bool:
        """Take the end of the client's sending; a half-closed client still gets its answers."""
        self._eof = True
        self._pump()
        # asyncio cannot half-close TLS; it warns if asked to.
        return self._phase is not _CLOSED and not self._facts.secure

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything: the connection is gone."""
        self._let_go()
        heir = self._transport.get_protocol()
        if isinstance(heir, Lingering):  # TLS tells the protocol that was there when it heard of it
            heir.connection_lost(exc)

    def pause_writing(self) -> None:
        """Learn that the client reads too slowly."""
        self._output.full = True
        if self._exchange is not None:
            self._output.progress()  # from now on
            self._set_deadline(self._worker.config.write_timeout)

    def resume_writing(self) -> None:
        """Learn that there is room again."""
        self._output.full = False
        self._output.room.wake()
        if self._exchange is not None:
            self.deadline = NEVER
            self._exchange.resume()
        self._pump_soon()

    # ------------------------------------------------------------------ for the server

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return self._exchange is None

    def shutdown(self) -> None:
        """Close if idle, else after the response under way, which says `connection: close`.

        A request whose head has begun to arrive is still answered.
        """
        self._keep_alive = False
        if self._exchange is not None:
            self._exchange.shutdown()
        elif self._phase is not _HEAD or not self._buffer:
            self._close()

    def retire(self) -> None:
        """Say goodbye as `shutdown` does, but if idle with the answer to a request that is on its way."""
        if self._exchange is not None:
            self.shutdown()

    def terminate(self) -> None:
        """Close at once, whatever is under way."""
        self._transport.abort()

    def expire(self) -> None:
        """Act on a deadline: of a request, of an idle connection, of a client that does not read."""
        self.deadline = NEVER
        if self._phase is _HEAD and self._buffer:
            self._refuse(_too_late("no complete request head in time", "head_timeout"))
        elif self._exchange is None:
            self._close()
        elif self._pace is not None and not self._output.full:
            self._judge_pace(self._pace, self._exchange)
        elif self._output.progress() >= self._worker.config.write_timeout * LEAST_RATE:
            self._set_deadline(self._worker.config.write_timeout)
        else:
            self._hit("write_timeout", "an answer was cut, the client does not read it")
            self._transport.abort()

    # ------------------------------------------------------------------ Stream

    def new_extensions(self) -> dict[str, dict[str, Any]]:
        """Return what works for the current request."""
        request = self._request
        if request.upgrade:
            return {"websocket.http.response": {}}
        extensions: dict[str, dict[str, Any]] = {
            "http.response.pathsend": {},
            "http.response.zerocopysend": {},
            "http.response.early_hint": {},
            "http.response.trailers": {},
        }
        if not CAN_SEND_FILES:
            del extensions["http.response.pathsend"], extensions["http.response.zerocopysend"]
        if request.http_version == "1.0":
            del extensions["http.response.early_hint"], extensions["http.response.trailers"]
        return extensions

    @property
    def writable(self) -> bool:
        """Whether the transport has room."""
        return not self._output.full

    @property
    def zero_copy(self) -> bool:
        """Whether the kernel can send files: not through TLS."""
        return CAN_SEND_FILES and not self._facts.secure

    def send(self, head: Head | None, body: bytes, end: bool) -> None:
        """Send a part of the response, or of what a WebSocket says."""
        if self._phase is _TUNNEL:
            self._output.write(body)
            if end:
                self._exchange = None
                self._close(hear_out=True)  # RFC 6455, 7.1.1, says so too
            return
        if head is not None:
            if head.close or (self._phase is not _ANSWERING and not self._can_go_on(end=end)):
                self._keep_alive = False
            if self._pace is not None:
                self._drop_pace()
        data = self._response.encode(head, body, end, not self._keep_alive)
        self._output.write(data, end and not self._buffer)
        if end:
            self._end_exchange()
        elif head is not None and head.status == HTTPStatus.SWITCHING_PROTOCOLS:
            self._begin_tunnel()

    def send_informational(self, status: int, fields: Fields) -> None:
        """Send a 1xx head; never to HTTP/1.0."""
        self._output.write(self._response.encode_informational(status, fields))

    def send_trailers(self, fields: Fields) -> None:
        """End the response with a trailer section, if there is a place for one."""
        self._output.write(self._response.encode_trailers(fields))
        self._end_exchange()

    async def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Let the kernel send a part of a file, when everything before it has left."""
        before, after = self._response.encode_around(count)
        self._output.write(before)
        await self._output.wait_sent()
        sock = self._transport.get_extra_info("socket")
        sent = await send_file(sock, self._wait_room, descriptor, offset, count)
        if sent == count:
            self._output.write(after)
        return sent

    def push(self, path: bytes, fields: Fields) -> None:
        """Do nothing: HTTP/1 has no push, and does not say so in its extensions."""

    def pull(self, taken: int) -> None:
        """Take credit; before the application waits, ask for the content (RFC 9110, 10.1.1)."""
        if taken:
            self._unread -= taken
            if self._paused:
                self._balance_reading()
        elif self._phase is _CONTENT:
            if self._response.wants_continue:
                self.send_informational(HTTPStatus.CONTINUE, [])
            self._keep_pace()

    def refuse(self) -> bool:
        """Say that HTTP/1 has no word for it."""
        return False

    def abort(self) -> None:
        """Cut the response so that no client can take it for complete (RFC 9112, 8)."""
        self._exchange = None
        self._cut()

    # ------------------------------------------------------------------ reading

    def _read_alone(self, data: bytes) -> bool:
        """Begin a plain request that one read brought alone: it is not even buffered.

        Returns:
            Whether it was one; else nothing has happened.
        """
        output = self._output
        if self._buffer or output.full or self._phase not in _BETWEEN:
            return False
        request = self._heads.read_alone(data)
        if request is None:
            return False
        output.gathering = True
        try:
            self._begin(request)
        finally:
            output.gathering = False
            output.flush()
        return True

    def _pump(self) -> None:
        """Go on with what is in the buffer, until there is nothing more to be done with it."""
        if self._output.gathering:
            return
        self._output.gathering = True
        try:
            for _ in range(_REQUESTS_PER_TURN):
                if not self._step():
                    break
            else:
                self._pump_later()
        finally:
            self._output.gathering = False
            self._output.flush()
        if self._eof:
            self._end_input()
        self._balance_reading()

    def _pump_soon(self) -> None:
        """Go on when whoever called has finished; the pump itself goes on anyway."""
        if not self._output.gathering and (self._buffer or self._eof or self._paused):
            self._pump_later()

    def _pump_later(self) -> None:
        """Go on in the next turn of the loop; once, however many have asked for it."""
        if not self._pump_due:
            self._pump_due = True
            self._worker.loop.call_soon(self._pump_in_turn)

    def _pump_in_turn(self) -> None:
        self._pump_due = False
        self._pump()

    def _step(self) -> bool:
        """Do one thing with the buffer; return whether there may be another."""
        if self._phase is _IDLE or self._phase is _HEAD:
            return not self._output.full and not self._transport.is_closing() and self._read_head()
        return self._phase is _CONTENT and self._read_content()

    def _read_head(self) -> bool:
        try:
            request = self._heads.read(self._buffer)
        except StreamFault as fault:
            self._refuse(fault)
            return False
        if request is not None:
            self._begin(request)
            return True
        if self._phase is _IDLE and self._buffer:
            self._phase = _HEAD
            self._set_deadline(self._worker.config.head_timeout)
        return False

    def _begin(self, request: Http1Request) -> None:
        """Make the exchange of a request, feed it what is here already, then start the application."""
        self.deadline = NEVER
        self._phase = _CONTENT
        self._request = request
        self._response = request.response
        self._requests += 1
        config = self._worker.config
        last = self._worker.closing or self._requests >= config.max_requests_per_connection
        self._keep_alive = self._keep_alive and request.keep_alive and not last
        content, data = request.content, b""
        try:
            if not content.ended:
                check_length(content.remaining, config)
                data = content.read(self._buffer)
            exchange = open_exchange(self._worker, self, self._facts, request, request.upgrade)
        except StreamFault as fault:
            self._refuse(fault)
            return
        self._exchange = exchange
        if content is NO_CONTENT:
            self._phase = _ANSWERING
            exchange.feed_end()
        else:
            self._take_content(data)
        exchange.start()

    def _read_content(self) -> bool:
        before = len(self._buffer)
        if not before:
            return False
        try:
            data = self._request.content.read(self._buffer)
        except StreamFault as fault:
            self._refuse(fault)
            return False
        self._take_content(data)
        # Of very many chunks it takes some at a time; when it takes nothing, it waits for more.
        self._behind = self._phase is _CONTENT and 0 < len(self._buffer) < before
        if self._behind:
            self._pump_later()
        return self._phase is not _CONTENT

    def _take_content(self, data: bytes) -> None:
        """Pass on what was read of the content, and its end."""
        if data:
            self._feed(data)
        if not self._request.content.ended or self._phase is not _CONTENT:
            return
        self._phase = _ANSWERING
        if self._pace is not None:
            self._drop_pace()
        if self._exchange is None:
            self._next_request()
        elif not self._request.upgrade:
            self._exchange.feed_end()

    def _feed(self, data: bytes) -> None:
        if self._exchange is not None:
            self._unread += len(data)
            if self._pace is not None and not self._output.full:
                self._pace.stop(self._worker.clock.now(), len(data))
                self.deadline = NEVER
            self._exchange.feed(data)
            return
        self._drained += len(data)
        if self._drained > self._worker.config.max_drain:
            self._close(hear_out=True)

    def _end_input(self) -> None:
        """Act on the end of the client's sending, when everything before it has been dealt with."""
        if (self._phase is _IDLE and self._buffer) or (self._phase is _CONTENT and self._behind):
            return  # pipelined requests that have yet to begin, chunks that have yet to be read
        if self._exchange is not None and self._phase is not _CONTENT:
            self._exchange.feed_eof()
        else:
            self._close()

    def _balance_reading(self) -> None:
        """Stop reading while too much waits for the application or for its turn; else go on."""
        if self._eof or self._phase is _CLOSED:
            return
        waiting = self._unread
        if self._output.full or self._pump_due or self._phase is _ANSWERING or self._phase is _IDLE:
            waiting += len(self._buffer)
        window = self._worker.config.stream_window
        # Not when it is just full: uvloop reads 256 KiB at a time, and to stop and go on after each costs 6 % of an upload.
        if waiting > window and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        elif waiting <= window // 2 and self._paused:
            self._paused = False
            self._transport.resume_reading()

    def _read_on_later(self) -> None:
        """Give others their turn between two large reads: libuv would do 32 of them first."""
        if not self._paused and self._phase is _TUNNEL:
            self._paused = True
            self._transport.pause_reading()
            self._worker.loop.call_soon(self._balance_reading)

    # ------------------------------------------------------------------ writing

    def _can_go_on(self, *, end: bool) -> bool:
        """Whether another request can be found behind content that has not been read to its end."""
        # Content that the client was never asked for may or may not come: only closing is safe.
        if self._response.wants_continue:
            return False
        # More content than will be drained: the client is told, and may stop sending.
        return not end or self._request.content.remaining <= self._worker.config.max_drain

    async def _wait_room(self, descriptor: int) -> None:
        self._output.progress()  # from now on
        self._set_deadline(self._worker.config.write_timeout)
        try:
            await self._output.wait_room(descriptor)
        finally:
            self.deadline = NEVER

    # ------------------------------------------------------------------ deadlines

    def _set_deadline(self, seconds: float) -> None:
        self.deadline = self._worker.clock.now() + seconds

    def _keep_pace(self) -> None:
        """Ask the client for a pace from now on: the application begins to wait for content."""
        assert self._exchange is not None
        config = self._worker.config
        if not config.body_min_rate or self._response.begun or self._output.full or self._exchange.waiting:
            return
        if self._pace is None:
            self._pace = Pace(config.body_timeout, config.body_min_rate)
        self.deadline = self._pace.start(self._worker.clock.now())

    def _judge_pace(self, pace: Pace, exchange: Exchange) -> None:
        """Refuse a request whose content came too slowly, if the application does wait for it."""
        if not exchange.waiting:
            return
        if pace.renew():
            self.deadline = pace.start(self._worker.clock.now())
        else:
            self._refuse(_too_late("the content comes too slowly", "body_min_rate"))

    def _drop_pace(self) -> None:
        self._pace = None
        if not self._output.full:
            self.deadline = NEVER

    # ------------------------------------------------------------------ endings

    def _end_exchange(self) -> None:
        """Go on after a complete response: the next request, the rest of this one, or the end."""
        self._exchange = None
        self._unread = self._drained = 0
        if self._phase is _ANSWERING:
            self._next_request()
        elif self._keep_alive:
            # What is left of the content is dropped, within the time that a head may take.
            self._set_deadline(self._worker.config.head_timeout)
            self._pump_soon()
        else:
            self._close(hear_out=True)

    def _next_request(self) -> None:
        if not self._keep_alive:
            self._close()
            return
        del self._request, self._response  # an idle connection holds on to nothing
        self._phase = _IDLE
        worker = self._worker
        self.deadline = worker.clock.now() + worker.config.keep_alive_timeout
        if not self._output.gathering:
            self._pump_soon()

    def _begin_tunnel(self) -> None:
        self._phase = _TUNNEL
        del self._heads, self._request, self._response  # a WebSocket may be open for days
        early = bytes(self._buffer)
        self._buffer.clear()
        if early:
            self._feed(early)
        if self._paused:
            self._balance_reading()

    def _refuse(self, fault: StreamFault) -> None:
        """Answer what is not a request with the status of its fault, and close.

        If the response has begun, cut it: its head said nothing of this.
        """
        client, worker = self._facts.client, self._worker
        error_log.debug("%s refused: %d %s", format_address(client), fault.code, fault)
        if fault.limit is not None:
            self._hit(fault.limit, f"{fault}, so the connection is closed")
        in_head = self._phase is _HEAD or self._phase is _IDLE
        if in_head or not self._response.begun:
            bodiless = not in_head and self._request.method == "HEAD"
            answer = refusal(fault, worker.clock.date, worker.server_field, bodiless=bodiless)
            self._output.write(answer)
            length = len(answer.partition(b"\r\n\r\n")[2])
            if self._exchange is not None:
                self._exchange.lost(fault.code, length)
                self._exchange = None
            else:
                head = None if in_head else self._request
                tell_refusal(worker, self._facts, head, status=fault.code, length=length)
            self._close(hear_out=True)
        elif self._exchange is None:
            self._close(hear_out=True)
        else:
            self._cut()

    def _hit(self, limit: str, what: str) -> None:
        self._worker.limits.hit(limit, self._facts.client, what)

    def _close(self, *, hear_out: bool = False) -> None:
        """Close as soon as everything is sent.

        Args:
            hear_out: Whether the client may still be sending.
        """
        if self._phase is _CLOSED:
            return
        self._output.flush()
        unread = self._paused or bool(self._buffer) or self._phase is _CONTENT
        hear_out = not self._eof and (hear_out or unread)
        self._let_go()
        Lingering(self._transport, self._worker, self._facts, hear_out=hear_out)

    def _cut(self) -> None:
        """Close in the middle of a response, so that it cannot be taken for complete."""
        if self._phase is _TUNNEL or not self._response.ends_by_close:
            self._close()
            return
        if not self._facts.secure:  # TLS tells by its missing close_notify
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()

    def _let_go(self) -> None:
        self._phase = _CLOSED
        self.deadline = NEVER
        self._buffer.clear()
        self._output.close()
        self._worker.clock.forget(self)
        self._worker.leave(self)
        self._lose_exchange()

    def _lose_exchange(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost()


def _too_late(reason: str, limit: str) -> StreamFault:
    return StreamFault(HTTPStatus.REQUEST_TIMEOUT, reason, limit=limit)


if TYPE_CHECKING:
    _stream: type[Stream] = Http1Connection
    _connection: type[Connection] = Http1Connection
    _timed: type[Timed] = Http1Connection
