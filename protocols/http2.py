"""Http2Connection: HTTP/2 on h2, with per-stream back-pressure in both directions.

Invariants:
- The reader never waits for an application. What arrives is fed to its stream's exchange; window
  goes back only as the application takes the bytes, so a stream that nobody reads stalls alone.
- What a stream sends waits in the stream, bounded by its high mark; frames are taken out of the
  streams in turns, while the windows and the transport have room.
- Everything said while a read is handled leaves in one write; what is said later leaves in one
  write per loop turn.
- A stream is in `_streams`, with its exchange, exactly as long as h2 lets us send on it. What leaves
  it has parted from the connection, so that an application which goes on sending reaches nobody, and
  h2 never raises.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

import h2.events
from h2.errors import ErrorCodes
from hpack import NeverIndexedHeaderTuple

from ..core.asgi import Fields
from ..core.clock import NEVER
from ..core.errors import ConnectionFault, StreamFault
from ..core.exchange import Connection
from ..core.http import HttpExchange
from ..core.log import error_log, format_address, log_refusal
from ..core.opening import open_exchange
from ..core.scope import ConnectionFacts, RequestHead, http_scope
from ..core.worker import Worker
from .http2_machine import GoawayReceived, Http2Machine, PriorityChanged
from .http2_request import Http2Request, check_content, check_trailers, read_request
from .http2_schedule import EarlyPriorities, parse_priority
from .http2_sender import Http2Sender
from .http2_stream import AnyExchange, Carrier, Http2Stream
from .lingering import Lingering

# How long a shutdown waits for the streams under way before it says GOAWAY; see `shutdown`.
_ANNOUNCE_SECONDS: Final = 5.0
# What a promised request never has: its authority is the parent's, and it has no content.
_NEVER_PROMISED: Final = frozenset((b"connection", b"content-length", b"expect", b"host"))
# RFC 7541, 7.1.3: values that are guessed one by one if they get into the tables.
_SECRET: Final = frozenset((b"authorization", b"cookie", b"proxy-authorization"))


class Phase(Enum):
    """How far the connection is; it only goes forward."""

    OPEN = "open"
    LEAVING = "to be closed when no stream is left"
    ANNOUNCED = "the same, and GOAWAY has said so: newer streams are refused"
    CLOSED = "closed, or being closed"


class Http2Connection(asyncio.Protocol):
    """One HTTP/2 connection: asyncio's protocol, the server's `Connection`, its streams' `Carrier`."""

    def __init__(self, worker: Worker, facts: ConnectionFacts) -> None:
        # Fixed.
        self._worker = worker
        self._facts = facts
        self._transport: asyncio.Transport
        self._machine = Http2Machine(worker.config)
        self._sender = Http2Sender(self._machine, self._sent_all)
        self._handlers: dict[type[h2.events.Event], Callable[..., None]] = {
            h2.events.RequestReceived: self._request_received,
            h2.events.DataReceived: self._data_received,
            h2.events.TrailersReceived: self._trailers_received,
            h2.events.StreamEnded: self._stream_ended,
            h2.events.StreamReset: self._stream_reset,
            h2.events.WindowUpdated: self._window_updated,
            h2.events.RemoteSettingsChanged: self._settings_changed,
            GoawayReceived: self._goaway_received,
            PriorityChanged: self._priority_changed,
        }
        # This connection.
        self._phase = Phase.OPEN
        self._streams: dict[int, Http2Stream] = {}
        self._pushed = 0  # how many of them are promised by us
        self._early_priorities = EarlyPriorities()
        self._starting: list[Http2Stream] = []
        self._reading = False
        self._flush_scheduled = False
        self.deadline = NEVER

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send our settings."""
        # uvloop's transports do not derive from asyncio's classes.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=self._worker.config.write_high_mark)
        self._worker.join(self, self._facts.limited_client)
        self._worker.clock.watch(self)
        self.deadline = self._worker.clock.now() + self._worker.config.head_timeout
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take what the client sent, start the applications for it, then send what they said."""
        self._reading = True
        try:
            for event in self._machine.receive(data):
                handler = self._handlers.get(type(event))
                if handler is not None:
                    handler(event)
            self._start()
        except ConnectionFault as fault:
            self._fail(fault)
            return
        except Exception:  # noqa: BLE001 - a bug, of ours or of h2: it shall cost one connection
            error_log.exception("%s: HTTP/2 went wrong", format_address(self._facts.client))
            self._fail(ConnectionFault(ErrorCodes.INTERNAL_ERROR, "internal error"))
            return
        finally:
            self._reading = False
        self._flush()
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything: the connection is gone."""
        self._leave()
        heir = self._transport.get_protocol()
        if isinstance(heir, Lingering):  # TLS tells the protocol that was there when it heard of it
            heir.connection_lost(exc)

    def pause_writing(self) -> None:
        """Learn that the client reads too slowly."""
        self._sender.full = True

    def resume_writing(self) -> None:
        """Learn that there is room again."""
        self._sender.full = False
        self._flush()
        self._rest()

    # ------------------------------------------------------------------ for the server

    @property
    def idle(self) -> bool:
        """Whether no stream is open."""
        return not self._streams

    def shutdown(self) -> None:
        """Close when the streams under way have ended, and meanwhile announce it.

        GOAWAY comes once (RFC 9113, 6.8), with the newest stream we have seen: what the client
        opens later is refused, or never read, and is safe to send again elsewhere (8.7). It comes
        when no stream is left, or after `_ANNOUNCE_SECONDS`: clients on Python's h2, httpx among
        them, fail whatever is under way when they see it. Until then new streams are served.
        """
        if self._phase not in (Phase.OPEN, Phase.LEAVING):
            return
        self._phase = Phase.LEAVING
        patience = min(_ANNOUNCE_SECONDS, self._worker.config.graceful_timeout / 2)
        self.deadline = self._worker.clock.now() + patience
        for stream in list(self._streams.values()):
            assert stream.exchange is not None
            stream.exchange.shutdown()
        self._flush()
        self._rest()

    def terminate(self) -> None:
        """Close at once, whatever is under way."""
        self._transport.abort()

    def expire(self) -> None:
        """Act on a deadline: no request in time, an idle connection, or a shutdown that takes its time."""
        if self._phase is Phase.OPEN:
            self.shutdown()
        else:
            self._announce()
            self._flush()

    # ------------------------------------------------------------------ for the streams

    @property
    def push_allowed(self) -> bool:
        """Whether the client accepts a push now (RFC 9113, 6.5.2, 6.8 and 8.4)."""
        settings = self._machine.remote_settings
        return (
            self._phase is Phase.OPEN
            and settings.enable_push == 1
            and self._pushed < settings.max_concurrent_streams
        )

    def send_head(self, stream: Http2Stream, fields: Fields, *, end: bool) -> None:
        """Send HEADERS."""
        self._machine.send_headers(stream.id, fields, end_stream=end)
        if end:
            self._sent_all(stream)
        self._flush_soon()

    def send_end(self, stream: Http2Stream) -> None:
        """End a response that has nothing left to send."""
        self._machine.send_data(stream.id, b"", end_stream=True)
        self._sent_all(stream)
        self._flush_soon()

    def schedule(self, stream: Http2Stream) -> None:
        """Let a stream take its turns."""
        self._sender.add(stream)
        self._flush_soon()

    def credit(self, stream: Http2Stream, taken: int) -> None:
        """Give window back for what the application took; h2 waits until an update is worth a frame."""
        stream.owed -= taken
        self._machine.acknowledge_received_data(taken, stream.id)
        self._flush_soon()

    def reset(self, stream: Http2Stream, code: ErrorCodes) -> None:
        """Reset a stream for a reason of our own: its application failed, or nobody has time for it."""
        self._machine.reset_stream(stream.id, code)
        self._drop(stream)
        self._flush_soon()

    def promise(self, stream: Http2Stream, path: bytes, fields: Fields) -> None:
        """Send PUSH_PROMISE (RFC 9113, 8.4); soon, run the application for it."""
        if not self.push_allowed:
            return
        promised_id = self._machine.get_next_available_stream_id()
        own = [field for field in fields if field[0] not in _NEVER_PROMISED]
        pseudo = [
            (b":method", b"GET"),
            (b":scheme", b"https" if self._facts.secure else b"http"),
            (b":authority", stream.authority),
            (b":path", path),
        ]
        sent = [NeverIndexedHeaderTuple(*field) if field[0] in _SECRET else field for field in own]
        self._machine.push_stream(stream.id, promised_id, [*pseudo, *sent])
        pushed = self._open(promised_id, receiving=False)
        pushed.authority = stream.authority
        raw_path, _, query = path.partition(b"?")
        head = RequestHead("GET", raw_path, query, [(b"host", stream.authority), *own], "2")
        exchange = HttpExchange(self._worker, pushed, http_scope(self._facts, head, pushed.extensions))
        exchange.feed_end()
        self._start_soon(pushed, exchange)
        self._flush_soon()

    # ------------------------------------------------------------------ events: requests

    def _request_received(self, event: h2.events.RequestReceived) -> None:
        stream_id = event.stream_id
        early_priority = self._early_priorities.take(stream_id)
        if self._phase is Phase.ANNOUNCED or self._requests >= self._worker.config.max_streams:
            self._machine.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        try:
            request = read_request(event.headers)
        except StreamFault as fault:
            self._refuse(stream_id, fault)
            return
        if self._phase is Phase.OPEN:
            self.deadline = NEVER
        stream = self._open(stream_id, receiving=event.stream_ended is None)
        try:
            exchange = self._open_exchange(stream, request)
        except StreamFault as fault:
            self._debug(f"stream {stream_id}", fault)
            self._answer(stream, fault)
            if self._worker.log_access:
                log_refusal(self._facts.client, request.head, fault.code, 0)
            return
        if early_priority is not None:  # RFC 9218, 7: it overrides what the request says
            stream.priority = early_priority
        self._start_soon(stream, exchange)

    def _open_exchange(self, stream: Http2Stream, request: Http2Request) -> AnyExchange:
        """Make the exchange of a request.

        Raises:
            StreamFault: The code is the HTTP status to answer.
        """
        config, head = self._worker.config, request.head
        if request.size > config.max_head_bytes or len(head.fields) > config.max_fields:
            raise StreamFault(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "the request head is too large")
        self._read_hints(stream, head.fields)
        if head.method != head.method.upper():  # `get` is not GET (RFC 9110, 9.1), and a scope cannot say it
            raise StreamFault(HTTPStatus.NOT_IMPLEMENTED, "methods are in upper case")
        if head.method != "CONNECT":
            stream.length = request.length
            return open_exchange(self._worker, stream, self._facts, head, websocket=False)
        if request.protocol != b"websocket":
            raise StreamFault(HTTPStatus.NOT_IMPLEMENTED, "CONNECT is for WebSocket alone (RFC 8441)")
        stream.tunnel = True
        return open_exchange(self._worker, stream, self._facts, head, websocket=True)

    def _read_hints(self, stream: Http2Stream, fields: Fields) -> None:
        for name, value in fields:
            if name == b"host":
                stream.authority = value
            elif name == b"priority":
                stream.priority = parse_priority(value)
            elif name == b"expect" and value.lower() == b"100-continue":
                stream.expects_continue = True

    def _answer(self, stream: Http2Stream, fault: StreamFault) -> None:
        """Answer a request that goes to no application."""
        fields = [
            (b":status", b"%d" % fault.code),
            (b"date", self._worker.clock.date),
            (b"content-length", b"0"),
        ]
        if fault.code == HTTPStatus.UPGRADE_REQUIRED:
            fields.append((b"sec-websocket-version", b"13"))
        if self._worker.server_field is not None:
            fields.append(self._worker.server_field)
        self.send_head(stream, fields, end=True)

    def _data_received(self, event: h2.events.DataReceived) -> None:
        stream, data = self._streams[event.stream_id], event.data
        padding = event.flow_controlled_length - len(data)
        if padding:  # is nobody's to take (RFC 9113, 6.1)
            self._machine.acknowledge_received_data(padding, stream.id)
        if data:
            assert stream.exchange is not None
            stream.expects_continue = False
            stream.received += len(data)
            stream.owed += len(data)
            stream.exchange.feed(data)

    def _trailers_received(self, event: h2.events.TrailersReceived) -> None:
        stream = self._streams.get(event.stream_id)
        try:
            check_trailers(event.headers, tunnel=stream is not None and stream.tunnel)
        except StreamFault as fault:
            self._refuse(event.stream_id, fault)

    def _stream_ended(self, event: h2.events.StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.receiving = False
        try:
            check_content(stream.length, stream.received)
        except StreamFault as fault:
            self._refuse(stream.id, fault)
            return
        assert stream.exchange is not None
        stream.exchange.feed_end()

    def _stream_reset(self, event: h2.events.StreamReset) -> None:
        self._drop(self._streams.get(event.stream_id))

    def _refuse(self, stream_id: int, fault: StreamFault) -> None:
        """Reset the stream of a malformed request (RFC 9113, 8.1.1)."""
        self._debug(f"stream {stream_id}", fault)
        self._machine.reset_stream(stream_id, fault.code)
        self._drop(self._streams.get(stream_id))

    # ------------------------------------------------------------------ events: the connection

    def _window_updated(self, event: h2.events.WindowUpdated) -> None:
        stream = self._streams.get(event.stream_id or 0)  # 0: the connection's, for all of them
        if stream is not None:
            self._unblock(stream)

    def _settings_changed(self, event: h2.events.RemoteSettingsChanged) -> None:
        """Look at every window again: the initial size of all of them may have changed (RFC 9113, 6.9.2)."""
        for stream in self._streams.values():
            self._unblock(stream)

    def _goaway_received(self, event: GoawayReceived) -> None:
        """Finish what is under way; a client that leaves for a fault of ours is worth a line."""
        if event.code != ErrorCodes.NO_ERROR:
            error_log.debug("%s says GOAWAY %d", format_address(self._facts.client), event.code)
        if self._phase is Phase.OPEN:
            self._phase = Phase.LEAVING

    def _priority_changed(self, event: PriorityChanged) -> None:
        """Apply a PRIORITY_UPDATE, or keep it for a stream that is still to come (RFC 9218, 7.1)."""
        priority = parse_priority(event.value)
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._sender.discard(stream)
            stream.priority = priority
            self._unblock(stream)
        elif self._machine.is_idle(event.stream_id):
            self._early_priorities.keep(event.stream_id, priority)
            if len(self._early_priorities) + self._requests > self._worker.config.max_streams:
                raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "priorities for more streams than may be")

    # ------------------------------------------------------------------ applications

    def _start_soon(self, stream: Http2Stream, exchange: AnyExchange) -> None:
        """Start an application, once all of this read is fed."""
        stream.exchange = exchange
        self._starting.append(stream)

    def _start(self) -> None:
        """Start the applications that are due; not for a request that was reset in the same read."""
        for stream in self._starting:  # grows if one of them pushes
            if stream.exchange is not None:
                stream.exchange.start()
        self._starting.clear()

    # ------------------------------------------------------------------ sending

    def _flush_soon(self) -> None:
        due = self._sender or self._starting
        if due and not self._reading and not self._flush_scheduled:
            self._flush_scheduled = True
            self._worker.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_scheduled = False
        if self._phase is not Phase.CLOSED:
            self._start()
            self._flush()
            self._rest()

    def _flush(self) -> None:
        self._sender.flush(self._transport)

    def _sent_all(self, stream: Http2Stream) -> None:
        """Let go of a stream whose response has left; content that nobody will read is not waited for.

        RFC 9113, 8.1: RST_STREAM with NO_ERROR stops the client and does not take the answer back.
        A WebSocket that ends has already waited for the client's close frame, or long enough.
        """
        stream.exchange = None
        if stream.receiving:
            self._machine.reset_stream(stream.id, ErrorCodes.NO_ERROR)
        self._drop(stream)

    def _unblock(self, stream: Http2Stream) -> None:
        stream.blocked = False
        self._sender.add(stream)

    # ------------------------------------------------------------------ endings

    @property
    def _requests(self) -> int:
        """How many streams of the client are open."""
        return len(self._streams) - self._pushed

    def _open(self, stream_id: int, *, receiving: bool) -> Http2Stream:
        stream = Http2Stream(self, stream_id, self._worker.config.write_high_mark, receiving=receiving)
        self._streams[stream_id] = stream
        self._pushed += stream_id % 2 == 0
        return stream

    def _drop(self, stream: Http2Stream | None) -> None:
        """Part from a stream that h2 has closed; what its application never took is credited."""
        if stream is None:
            return
        del self._streams[stream.id]
        self._pushed -= stream.id % 2 == 0
        self._sender.discard(stream)
        if stream.owed:  # the window of the connection is for all streams, and would shrink for good
            self._machine.acknowledge_received_data(stream.owed, stream.id)
            stream.owed = 0
        stream.let_go()

    def _rest(self) -> None:
        """Close a connection that is done, or start the deadline of an idle one."""
        if self._streams or self._phase is Phase.CLOSED or self._transport.is_closing():
            return
        if self._phase is not Phase.OPEN:
            self._announce()
            self._close()
        elif self.deadline == NEVER:
            self.deadline = self._worker.clock.now() + self._worker.config.keep_alive_timeout

    def _announce(self) -> None:
        self.deadline = NEVER
        if self._phase is not Phase.ANNOUNCED:
            self._phase = Phase.ANNOUNCED
            self._machine.say_goaway(ErrorCodes.NO_ERROR)

    def _fail(self, fault: ConnectionFault) -> None:
        """End the connection for a fault of the client: GOAWAY, then nothing (RFC 9113, 5.4.1)."""
        self._debug("connection", fault)
        self._machine.say_goaway(fault.code, str(fault))
        self._close()

    def _close(self) -> None:
        """Close: what was said still leaves, and what the client still says is dropped."""
        self._leave()
        data = self._machine.data_to_send()
        if not self._transport.is_closing():
            self._transport.write(data)
        Lingering(self._transport, self._worker, self._facts.limited_client)

    def _leave(self) -> None:
        self._phase = Phase.CLOSED
        self.deadline = NEVER
        self._worker.clock.forget(self)
        self._starting.clear()
        for stream in list(self._streams.values()):
            self._drop(stream)
        self._worker.leave(self)

    def _debug(self, where: str, fault: StreamFault | ConnectionFault) -> None:
        error_log.debug("%s %s: %d %s", format_address(self._facts.client), where, fault.code, fault)


if TYPE_CHECKING:
    _connection: type[Connection] = Http2Connection
    _carrier: type[Carrier] = Http2Connection
