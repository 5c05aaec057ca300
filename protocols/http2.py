"""Http2Connection: HTTP/2 on h2, with per-stream back-pressure in both directions.

Invariants:
- The reader never waits for an application. What arrives is fed to its stream's exchange; window
  goes back only as the application takes the bytes, so a stream that nobody reads stalls alone.
- What a stream sends waits in the stream, bounded by its high mark; frames are taken out of the
  streams in turns, while the windows and the transport have room.
- Everything said while a read is handled leaves in one write; what is said later leaves in one
  write per loop turn.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

import h2.events
from h2.errors import ErrorCodes

from ..core.asgi import Fields
from ..core.clock import NEVER
from ..core.errors import ConnectionFault, StreamFault
from ..core.exchange import Connection
from ..core.http import HttpExchange
from ..core.log import error_log, format_address
from ..core.scope import ConnectionFacts, RequestHead, http_scope, websocket_scope
from ..core.websocket import WebSocketExchange
from ..core.worker import Worker
from .http2_machine import GoawayReceived, Http2Machine, PriorityChanged
from .http2_request import Http2Request, check_trailers, read_request
from .http2_schedule import Schedule, parse_priority
from .http2_stream import Carrier, Http2Stream
from .lingering import Lingering

# How much is handed to the transport at a time, before asking whether it has had enough.
_BURST: Final = 64 * 1024
# How long a client may take to read what is left after the last stream has ended.
_CLOSE_SECONDS: Final = 30.0


class Http2Connection(asyncio.Protocol):
    """One HTTP/2 connection: asyncio's protocol, the server's `Connection`, its streams' `Carrier`."""

    def __init__(self, worker: Worker, facts: ConnectionFacts) -> None:
        # Fixed.
        self._worker = worker
        self._facts = facts
        self._transport: asyncio.Transport
        self._machine = Http2Machine(worker.config)
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
        self._streams: dict[int, Http2Stream] = {}
        self._schedule: Schedule[Http2Stream] = Schedule()
        self._starting: list[HttpExchange | WebSocketExchange] = []
        self._credits: dict[Http2Stream, int] = {}
        self._reading = False
        self._flush_scheduled = False
        self._full = False
        self._closing = False
        self._lost = False
        self.deadline = NEVER

    # ------------------------------------------------------------------ asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send our settings."""
        # uvloop's transports do not derive from asyncio's classes.
        self._transport = transport = cast(asyncio.Transport, transport)
        transport.set_write_buffer_limits(high=self._worker.config.write_high_mark)
        self._worker.connections.add(self)
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
        except ConnectionFault as fault:
            self._fail(fault)
            return
        finally:
            self._reading = False
            self._start()
        self._flush()
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything: the connection is gone."""
        self._lost = True
        self._leave()

    def pause_writing(self) -> None:
        """Learn that the client reads too slowly."""
        self._full = True

    def resume_writing(self) -> None:
        """Learn that there is room again."""
        self._full = False
        self._flush()

    # ------------------------------------------------------------------ for the server

    @property
    def idle(self) -> bool:
        """Whether no stream is open."""
        return not self._streams

    def shutdown(self) -> None:
        """Announce the end; close when the streams under way have ended.

        One GOAWAY with the newest stream we have seen: what arrives later is refused, which tells
        the client that it is safe to try again elsewhere (RFC 9113, 6.8 and 8.7).
        """
        if self._closing:
            return
        self._closing = True
        self._machine.say_goaway(ErrorCodes.NO_ERROR)
        for stream in list(self._streams.values()):
            if stream.exchange is not None:
                stream.exchange.shutdown()
        self._flush()
        self._rest()

    def terminate(self) -> None:
        """Close at once, whatever is under way."""
        self._transport.abort()

    def expire(self) -> None:
        """Act on a deadline: no preface in time, or an idle connection."""
        if self._transport.is_closing():
            self._transport.abort()
        else:
            self.shutdown()

    # ------------------------------------------------------------------ for the streams

    @property
    def push_allowed(self) -> bool:
        """Whether the client accepts pushes now."""
        machine = self._machine
        limit = machine.remote_settings.max_concurrent_streams
        return bool(
            machine.remote_settings.enable_push
            and not self._closing
            and machine.open_outbound_streams < limit
        )

    def send_head(self, stream: Http2Stream, fields: Fields, *, end: bool) -> None:
        """Send a HEADERS frame."""
        self._machine.send_headers(stream.id, fields, end_stream=end)
        if end:
            self._sent_all(stream)
        self._flush_soon()

    def schedule(self, stream: Http2Stream) -> None:
        """Let a stream take its turns."""
        if not stream.blocked:
            self._schedule.add(stream)
        self._flush_soon()

    def credit(self, stream: Http2Stream, taken: int) -> None:
        """Collect credit; it leaves with the next flush, at most once per loop turn."""
        self._credits[stream] = self._credits.get(stream, 0) + taken
        self._flush_soon()

    def reset(self, stream: Http2Stream) -> None:
        """Reset a stream whose application failed."""
        self._machine.reset_stream(stream.id, ErrorCodes.INTERNAL_ERROR)
        self._drop(stream)
        self._flush_soon()

    def promise(self, stream: Http2Stream, path: bytes, fields: Fields) -> None:
        """Send PUSH_PROMISE (RFC 9113, 8.4); soon, run the application for it."""
        if not self.push_allowed or not path.startswith(b"/"):
            return
        machine = self._machine
        promised_id = machine.get_next_available_stream_id()
        pseudo = [
            (b":method", b"GET"),
            (b":scheme", b"https" if self._facts.secure else b"http"),
            (b":authority", stream.authority),
            (b":path", path),
        ]
        machine.push_stream(stream.id, promised_id, [*pseudo, *fields])
        pushed = self._open(promised_id)
        pushed.receiving = False
        raw_path, _, query = path.partition(b"?")
        head = RequestHead("GET", raw_path, query, [(b"host", stream.authority), *fields], "2")
        exchange = HttpExchange(self._worker, pushed, http_scope(self._facts, head, pushed.extensions))
        pushed.exchange = exchange
        exchange.feed_end()
        self._worker.loop.call_soon(self._worker.dispatcher.start, exchange)
        self._flush_soon()

    # ------------------------------------------------------------------ events

    def _request_received(self, event: h2.events.RequestReceived) -> None:
        stream_id = event.stream_id
        if self._closing or len(self._streams) >= self._worker.config.max_streams:
            self._machine.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        try:
            request = read_request(event.headers)
        except StreamFault as fault:
            self._debug(f"stream {stream_id}", fault)
            self._machine.reset_stream(stream_id, fault.code)
            return
        self.deadline = NEVER
        stream = self._open(stream_id)
        try:
            exchange = self._open_exchange(stream, request)
        except StreamFault as fault:
            self._debug(f"stream {stream_id}", fault)
            self._answer(stream, fault)
            return
        stream.exchange = exchange
        self._starting.append(exchange)

    def _open_exchange(self, stream: Http2Stream, request: Http2Request) -> HttpExchange | WebSocketExchange:
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
            return HttpExchange(self._worker, stream, http_scope(self._facts, head, stream.extensions))
        if request.protocol != b"websocket":
            raise StreamFault(HTTPStatus.NOT_IMPLEMENTED, "CONNECT is for WebSocket alone (RFC 8441)")
        stream.tunnel = True
        handshake = self._worker.open_handshake(head.fields, head.http_version, config)
        scope = websocket_scope(self._facts, head, stream.extensions, handshake.subprotocols)
        return WebSocketExchange(self._worker, stream, scope, handshake)

    def _read_hints(self, stream: Http2Stream, fields: Fields) -> None:
        for name, value in fields:
            if name == b"host":
                stream.authority = value
            elif name == b"priority":
                stream.priority = parse_priority(value)
            elif name == b"expect" and value.lower() == b"100-continue":
                stream.expect_continue()

    def _data_received(self, event: h2.events.DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        data, length = event.data, event.flow_controlled_length
        if stream is None or stream.exchange is None:
            self._machine.acknowledge_received_data(length, event.stream_id)
            return
        if length > len(data):  # padding is nobody's to take (RFC 9113, 6.1)
            self._machine.acknowledge_received_data(length - len(data), event.stream_id)
        if data:
            stream.exchange.feed(data)

    def _trailers_received(self, event: h2.events.TrailersReceived) -> None:
        try:
            check_trailers(event.headers)
        except StreamFault as fault:
            self._debug(f"stream {event.stream_id}", fault)
            self._machine.reset_stream(event.stream_id, fault.code)
            self._drop(self._streams.get(event.stream_id))

    def _stream_ended(self, event: h2.events.StreamEnded) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            return
        stream.receiving = False
        if stream.exchange is None:
            self._drop(stream)
        else:
            stream.exchange.feed_end()

    def _stream_reset(self, event: h2.events.StreamReset) -> None:
        self._drop(self._streams.get(event.stream_id))

    def _window_updated(self, event: h2.events.WindowUpdated) -> None:
        if event.stream_id:
            stream = self._streams.get(event.stream_id)
            if stream is not None:
                self._unblock(stream)

    def _settings_changed(self, event: h2.events.RemoteSettingsChanged) -> None:
        for stream in self._streams.values():
            self._unblock(stream)

    def _goaway_received(self, event: GoawayReceived) -> None:
        """Finish what is under way; a client that leaves for a fault of ours is worth a line."""
        if event.code != ErrorCodes.NO_ERROR:
            error_log.debug("%s says GOAWAY %d", format_address(self._facts.client), event.code)
        self._closing = True

    def _priority_changed(self, event: PriorityChanged) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._schedule.discard(stream)
            stream.priority = parse_priority(event.value)
            if stream.has_work and not stream.blocked:
                self._schedule.add(stream)

    def _start(self) -> None:
        """Start the applications whose requests have arrived, now that all of this read is fed."""
        starting, self._starting = self._starting, []
        for exchange in starting:
            self._worker.dispatcher.start(exchange)

    # ------------------------------------------------------------------ sending

    def _flush_soon(self) -> None:
        if not self._reading and not self._flush_scheduled:
            self._flush_scheduled = True
            self._worker.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_scheduled = False
        if not self._lost:
            self._flush()
            self._rest()

    def _flush(self) -> None:
        """Give credit, then hand frames to the transport while it has room."""
        self._give_credit()
        while True:
            self._fill(_BURST)
            data = self._machine.data_to_send()
            if data and not self._transport.is_closing():
                self._transport.write(data)
            if self._full or not data or not self._schedule:
                break

    def _fill(self, burst: int) -> None:
        """Take frames out of the streams in turns, up to about `burst` bytes."""
        machine = self._machine
        while burst > 0 and self._schedule and not self._full:
            stream = self._schedule.next()
            limit = min(machine.local_flow_control_window(stream.id), machine.max_outbound_frame_size)
            if limit <= 0 and stream.next_size:
                if machine.outbound_flow_control_window <= 0:
                    return
                stream.blocked = True
                self._schedule.discard(stream)
                continue
            burst -= self._send_frame(stream, max(limit, 0))

    def _send_frame(self, stream: Http2Stream, limit: int) -> int:
        content, end = stream.take(min(limit, stream.next_size))
        if content or end:
            self._machine.send_data(stream.id, content, end_stream=end)
        trailers = stream.due_trailers
        if trailers is not None:
            self._machine.send_headers(stream.id, trailers, end_stream=True)
            end = True
        if end:
            self._sent_all(stream)
        else:
            if not stream.next_size:
                self._schedule.discard(stream)
            stream.refill()
        return len(content)

    def _sent_all(self, stream: Http2Stream) -> None:
        """Let go of a stream whose response has left; content nobody reads is not waited for."""
        self._schedule.discard(stream)
        stream.exchange = None
        # A request that is refused is answered before the news of its own end has been handled.
        if not stream.receiving or self._machine.streams[stream.id].closed:
            self._drop(stream)
        elif not stream.tunnel:
            # RFC 9113, 8.1: tells the client to stop sending, without taking the answer back.
            self._machine.reset_stream(stream.id, ErrorCodes.NO_ERROR)
            self._drop(stream)

    def _give_credit(self) -> None:
        if self._credits:
            credits_, self._credits = self._credits, {}
            for stream, taken in credits_.items():
                self._machine.acknowledge_received_data(taken, stream.id)

    def _unblock(self, stream: Http2Stream) -> None:
        stream.blocked = False
        if stream.has_work:
            self._schedule.add(stream)

    # ------------------------------------------------------------------ endings

    def _open(self, stream_id: int) -> Http2Stream:
        stream = Http2Stream(self, stream_id, self._worker.config.write_high_mark)
        self._streams[stream_id] = stream
        return stream

    def _drop(self, stream: Http2Stream | None) -> None:
        if stream is None:
            return
        self._streams.pop(stream.id, None)
        self._schedule.discard(stream)
        stream.lose()

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
        stream.tunnel = False
        self.send_head(stream, fields, end=True)

    def _rest(self) -> None:
        """Close a connection that is done, or start the deadline of an idle one."""
        if self._streams or self._transport.is_closing():
            return
        if self._closing:
            self._transport.close()
            self.deadline = self._worker.clock.now() + _CLOSE_SECONDS
        elif self.deadline == NEVER:
            self.deadline = self._worker.clock.now() + self._worker.config.keep_alive_timeout

    def _fail(self, fault: ConnectionFault) -> None:
        """End the connection for a fault of the client: GOAWAY, then nothing (RFC 9113, 5.4.1)."""
        self._debug("connection", fault)
        self._machine.say_goaway(fault.code, str(fault))
        self._transport.write(self._machine.data_to_send())
        self._leave()
        Lingering(self._transport, self._worker.clock, paused=False)

    def _leave(self) -> None:
        self._lost = True
        self.deadline = NEVER
        self._worker.leave(self)
        self._worker.clock.forget(self)
        for stream in list(self._streams.values()):
            self._drop(stream)

    def _debug(self, where: str, fault: StreamFault | ConnectionFault) -> None:
        error_log.debug("%s %s: %d %s", format_address(self._facts.client), where, fault.code, fault)


if TYPE_CHECKING:
    _connection: type[Connection] = Http2Connection
    _carrier: type[Carrier] = Http2Connection
