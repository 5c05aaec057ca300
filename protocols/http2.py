"""Http2Connection: HTTP/2, with per-stream back-pressure in both directions.

Invariants:
- The reader never waits for an application. What arrives is fed to its stream's exchange; window
  goes back only as the application takes the bytes, so a stream that nobody reads stalls alone.
- What one read has brought is taken in turns with others; applications start when all of it is taken,
  in turns as well.
- What a stream sends waits in the stream, bounded by its high mark; frames are taken out of the
  streams in turns, while the windows and the transport have room.
- Everything said while a read is handled leaves in one write; what is said later leaves in one
  write per loop turn, but for the first message that the only stream, a WebSocket, says to all that came in
  a read: its client is likely to wait for just that.
- A stream is in `_streams`, with its exchange, exactly as long as the machine lets us send on it. What leaves
  it has parted from the connection, so that an application which goes on sending reaches nobody, and
  the machine never raises.
- A client has a slot for each of its streams that is open, and for each that was reset until its
  application has ended too.
"""

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, cast

from h2.errors import ErrorCodes

from ..core.asgi import Fields
from ..core.clock import NEVER
from ..core.errors import ConnectionFault, StreamFault
from ..core.exchange import Connection, Head
from ..core.http import HttpExchange
from ..core.log import error_log, format_address
from ..core.opening import tell_refusal
from ..core.scope import ConnectionFacts, http_scope
from ..core.worker import Worker
from . import http2_events as events
from .http2_fast_machine import Http2FastMachine
from .http2_guard import REPLIES, Http2Guard, Slots
from .http2_limits import STARTS_PER_TURN
from .http2_machine import Http2Machine
from .http2_opening import content_too_large, open_on_stream, refusal
from .http2_request import RequestReader, check_content, check_trailers, promised_request
from .http2_schedule import EarlyPriorities, parse_priority
from .http2_sender import Http2Sender
from .http2_stalls import Http2Stalls, Patient
from .http2_stream import Carrier, Http2Stream
from .lingering import Lingering

# How long a shutdown waits for the streams under way before it says GOAWAY; see `shutdown`.
_ANNOUNCE_SECONDS: Final = 5.0
# How long streams are still taken after the first GOAWAY, which the client may not have seen (Go, h2o: 1).
_WARNED_SECONDS: Final = 1.0
# What may be written to a client that does not read, beyond the high mark, before its frames are not
# read either: their answers would be without bound.
_MAX_UNREAD: Final = 256 * 1024


class Phase(Enum):
    """How far the connection is; it only goes forward."""

    OPEN = "open"
    LEAVING = "to be closed when no stream is left"
    WARNED = "the same, and a first GOAWAY has asked for no newer streams, which are still served"
    ANNOUNCED = "the same, and GOAWAY has said so: newer streams are refused"
    CLOSED = "closed, or being closed"


# By names of their own, because `Phase.OPEN` takes four times as long, on Python 3.11 ten times.
_OPEN, _LEAVING, _WARNED, _ANNOUNCED, _CLOSED = Phase


class Http2Connection(asyncio.Protocol):
    """One HTTP/2 connection: asyncio's protocol, the server's `Connection`, its streams' `Carrier`."""

    def __init__(self, worker: Worker, facts: ConnectionFacts) -> None:
        # Fixed.
        self._worker = worker
        self._facts = facts
        self._transport: asyncio.Transport
        self._guard = Http2Guard(worker, facts.client)
        machine = Http2FastMachine if worker.config.engine == "fast" else Http2Machine
        self._machine: events.Machine = machine(worker.config, self._guard)
        self._sender = Http2Sender(self._machine, self._guard, self._sent_all)
        self._handlers: dict[type[events.Event], Callable[..., None]] = {
            events.RequestReceived: self._request_received,
            events.DataReceived: self._data_received,
            events.TrailersReceived: self._trailers_received,
            events.StreamReset: self._stream_reset,
            events.WindowUpdated: self._window_updated,
            events.SettingsChanged: self._settings_changed,
            events.GoawayReceived: self._goaway_received,
            events.PriorityChanged: self._priority_changed,
        }
        # This connection.
        self._phase = _OPEN
        self._retiring = False
        self._streams: dict[int, Http2Stream] = {}
        self._pushed = 0  # how many of them are promised by us
        self._answered: dict[int, int] = {}  # the client still sends on them; how much of it was dropped
        self._reader = RequestReader()
        self._slots = Slots(worker.config.max_streams)
        self._opened = 0  # how many requests there were
        self._early_priorities = EarlyPriorities()
        self._starting: list[Http2Stream] = []
        self._reading = False
        self._unanswered = False  # whether nothing has left at once since the last read
        self._flush_scheduled = False
        self._paused = False
        self._stalls = Http2Stalls(worker, self, self._sender, self._streams, self._answered)
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
        """Take a turn's worth of what the client sent, start the applications for it, send what they said."""
        self._reading = self._unanswered = True
        try:
            for event in self._machine.receive(data):
                self._handlers[type(event)](event)
            if self._starting:
                self._start()
        except ConnectionFault as fault:
            self.fail(fault)
            return
        except Exception:  # noqa: BLE001 - a bug, of ours or of h2: it shall cost one connection
            error_log.exception("%s: HTTP/2 went wrong", format_address(self._facts.client))
            self.fail(ConnectionFault(ErrorCodes.INTERNAL_ERROR, "internal error"))
            return
        finally:
            self._reading = False
        if self._machine.unfinished_head is not None:
            self._stalls.begin()
        self._flush()
        if self._machine.behind:
            self._worker.loop.call_soon(self._take_turn)
        if self._machine.behind or self._sender.full or self._paused:
            self._balance_reading()
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
        self._stalls.begin()

    def resume_writing(self) -> None:
        """Learn that there is room again."""
        self._sender.full = False
        self._flush()
        self._balance_reading()
        self._rest()

    # ------------------------------------------------------------------ for the server

    @property
    def idle(self) -> bool:
        """Whether no stream is open."""
        return not self._streams

    def shutdown(self) -> None:
        """Close when the streams under way have ended, and meanwhile announce it.

        GOAWAY comes when no stream is left, with the newest stream we have seen: what the client
        opens later is never read, and is safe to send again elsewhere (RFC 9113, 8.7). It comes
        after `_ANNOUNCE_SECONDS` if there always are some: clients on Python's h2, httpx among
        them, fail whatever is under way when they see it. Then it comes twice (6.8): first it asks
        for no more streams, and those that cross it on their way are served; a moment later it
        names the newest, and newer ones are refused.
        """
        if self._phase not in (_OPEN, _LEAVING):
            return
        self._leave_soon(min(_ANNOUNCE_SECONDS, self._worker.config.graceful_timeout / 2))
        for stream in list(self._streams.values()):
            assert stream.exchange is not None
            stream.exchange.shutdown()
        self._flush()
        self._rest()

    def retire(self) -> None:
        """Say goodbye as `shutdown` does, but refuse no stream that crosses GOAWAY, which so comes twice."""
        self._retiring = True
        self.shutdown()

    def terminate(self) -> None:
        """Close at once, whatever is under way."""
        self._transport.abort()

    def expire(self) -> None:
        """Act on a deadline: no request in time, an idle connection, or a shutdown that takes its time."""
        if self._phase is _OPEN:
            if not self._opened:
                self._guard.count("head_timeout")
            self.shutdown()
        else:
            if self._phase is _LEAVING:
                self._warn()
            else:
                self._announce()
            self._flush()
            self._rest()

    # ------------------------------------------------------------------ for the stalls

    @property
    def taken(self) -> int:
        """How many bytes the transport has taken off our hands so far."""
        return self._sender.handed_over - self._transport.get_write_buffer_size()

    def give_up(self, stream: Http2Stream, fault: StreamFault) -> None:
        """End a request for a fault of its client: an answer in place of the application's, or a reset.

        CANCEL, for what is left of the response is not needed any more, and is not worth a protocol error.
        """
        exchange = stream.exchange
        assert exchange is not None
        if stream.begun:
            self._note(f"stream {stream.id}", fault)
            self.reset(stream, ErrorCodes.CANCEL)
        else:
            self._slots.keep(exchange)
            self._answer(stream, fault)
            exchange.lost(fault.code)

    def stop_upload(self, stream_id: int) -> None:
        """Stop a client that goes on sending after it was answered.

        RFC 9113, 8.1: RST_STREAM with NO_ERROR says so and does not take the answer back.
        """
        del self._answered[stream_id]
        self._machine.reset_stream(stream_id, ErrorCodes.NO_ERROR)
        self._flush_soon()

    def fail(self, fault: ConnectionFault) -> None:
        """End the connection for a fault of the client: GOAWAY, then nothing (RFC 9113, 5.4.1)."""
        if self._phase is not _CLOSED:
            self._note("connection", fault)
            self._machine.say_goaway(fault.code, str(fault))
            self._close()

    def cut(self, fault: ConnectionFault) -> None:
        """End the connection without a word, for the client would not read it."""
        self._note("connection", fault)
        self._transport.abort()

    # ------------------------------------------------------------------ for the streams

    @property
    def push_allowed(self) -> bool:
        """Whether the client accepts a push now (RFC 9113, 6.5.2, 6.8 and 8.4)."""
        return self._phase is _OPEN and self._pushed < self._machine.push_limit

    def send_head(self, stream: Http2Stream, fields: Fields, *, end: bool) -> None:
        """Send HEADERS."""
        self._machine.send_headers(stream.id, fields, end_stream=end)
        if end:
            self._sent_all(stream)
        self._flush_soon()

    def send_whole(self, stream: Http2Stream, head: Head, content: bytes) -> bool:
        """Send a whole response, if it need not wait for anything; tell whether it was sent."""
        if not self._sender.send_whole(stream.id, head, content):
            return False
        self._sent_all(stream)
        if not self._reading:
            self._flush_soon()
        return True

    def send_message(self, stream: Http2Stream, content: bytes) -> bool:
        """Send a message of a WebSocket, if it need not wait for anything; tell whether it was sent."""
        if not self._sender.send_message(stream, content):
            return False
        alone = len(self._streams) == 1 and not stream.owed
        if self._unanswered and alone and not (self._reading or self._flush_scheduled):
            self._unanswered = False
            self._flush()
        else:
            self._flush_soon()
        return True

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
        """Give window back for what the application took; the machine waits until an update is worth a frame."""
        stream.owed -= taken
        self._machine.acknowledge_received_data(taken, stream.id)
        if self._machine.wants_to_send:
            self._flush_soon()

    def expect(self, stream: Http2Stream) -> None:
        """See to it that the client sends the content that an application waits for."""
        self._stalls.begin()

    def reset(self, stream: Http2Stream, code: ErrorCodes) -> None:
        """Reset a stream for a reason of our own: its application failed, or nobody has time for it."""
        self._machine.reset_stream(stream.id, code)
        self._drop(stream)
        self._flush_soon()

    def promise(self, stream: Http2Stream, path: bytes, fields: Fields) -> None:
        """Send PUSH_PROMISE (RFC 9113, 8.4); soon, run the application for it."""
        if not self.push_allowed:
            return
        head, section = promised_request(path, fields, stream.authority, secure=self._facts.secure)
        promised_id = self._machine.get_next_available_stream_id()
        self._machine.push_stream(stream.id, promised_id, section)
        pushed = Http2Stream(self, promised_id, self._worker.config.write_high_mark, False)
        self._streams[promised_id] = pushed
        self._pushed += 1
        pushed.authority = stream.authority
        exchange = HttpExchange(self._worker, pushed, http_scope(self._facts, head, pushed.new_extensions()))
        exchange.feed_end()
        pushed.exchange = exchange
        self._starting.append(pushed)
        self._flush_soon()

    # ------------------------------------------------------------------ events: requests

    def _request_received(self, event: events.RequestReceived) -> None:
        stream_id, ended, worker = event.stream_id, event.ended, self._worker
        early_priority = self._early_priorities.take(stream_id) if self._early_priorities.kept else None
        if self._phase is _ANNOUNCED:
            self._machine.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        if not self._slots.free(len(self._streams) - self._pushed + len(self._answered)):
            self._machine.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            self._guard.log("max_streams", f"HTTP/2 stream {stream_id}: refused, too many are open")
            self._guard.count_reset()
            return
        try:
            request = self._reader.read(event.fields)
        except StreamFault as fault:
            self._refuse(stream_id, fault)
            return
        self._guard.earned += REPLIES
        self._opened += 1
        if self._phase is _OPEN:
            self.deadline = NEVER
            if self._opened >= worker.config.max_requests_per_connection:
                self._guard.count("max_requests_per_connection")
                self._leave_soon(_ANNOUNCE_SECONDS)  # so that it is left in good order
        stream = Http2Stream(self, stream_id, worker.config.write_high_mark, not ended)
        self._streams[stream_id] = stream
        try:
            exchange = open_on_stream(worker, self._facts, stream, request, event.size)
        except StreamFault as fault:
            self._answer(stream, fault)
            tell_refusal(worker, self._facts, request, status=fault.code, length=0, stream_id=stream_id)
            return
        if early_priority is not None:  # RFC 9218, 7: it overrides what the request says
            stream.priority = early_priority
        stream.exchange = exchange
        self._starting.append(stream)
        if ended:
            if stream.length:
                self._end_request(stream)
            else:
                exchange.feed_end()

    def _answer(self, stream: Http2Stream, fault: StreamFault) -> None:
        """Answer a request in place of an application."""
        self._note(f"stream {stream.id}", fault)
        self.send_head(stream, refusal(self._worker, fault), end=True)

    def _data_received(self, event: events.DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None:
            self._drop_content(event.stream_id, event.size)
        else:
            self._take_content(stream, event.data, event.size)
        if event.ended:
            self._end_stream(event.stream_id)

    def _take_content(self, stream: Http2Stream, data: bytes, size: int) -> None:
        length = len(data)
        if length < size:  # padding is nobody's to take (RFC 9113, 6.1)
            self._machine.acknowledge_received_data(size - length, stream.id)
        if length:
            assert stream.exchange is not None
            stream.expects_continue = False
            stream.received += length
            stream.owed += length
            if not stream.tunnel and 0 < self._worker.config.max_body < stream.received:
                if stream.begun:  # then it is reset, and the client is why
                    self._guard.count_reset()
                self.give_up(stream, content_too_large())
            else:
                stream.exchange.feed(data)

    def _drop_content(self, stream_id: int, size: int) -> None:
        """Read on after the answer, up to a bound: many a client looks for it only when it has sent all."""
        self._machine.acknowledge_received_data(size, stream_id)
        self._answered[stream_id] += size
        if self._answered[stream_id] > self._worker.config.max_drain:
            self.stop_upload(stream_id)

    def _trailers_received(self, event: events.TrailersReceived) -> None:
        stream = self._streams.get(event.stream_id)
        try:
            check_trailers(event.fields, tunnel=stream is not None and stream.tunnel)
        except StreamFault as fault:
            self._refuse(event.stream_id, fault)
        self._end_stream(event.stream_id)

    def _end_stream(self, stream_id: int) -> None:
        """Note that the client has ended its side of a stream; its request, if that is not over yet."""
        stream = self._streams.get(stream_id)
        if stream is None:
            self._answered.pop(stream_id, None)
        else:
            self._end_request(stream)

    def _end_request(self, stream: Http2Stream) -> None:
        """Tell the application that the client has ended its request."""
        stream.receiving = False
        try:
            check_content(stream.length, stream.received)
        except StreamFault as fault:
            self._refuse(stream.id, fault)
            return
        assert stream.exchange is not None
        stream.exchange.feed_end()

    def _stream_reset(self, event: events.StreamReset) -> None:
        """Let go of a stream that the client has reset, or whose rules it broke."""
        if self._answered.pop(event.stream_id, None) is None:
            self._guard.count_reset()
            self._drop(self._streams.get(event.stream_id))

    def _refuse(self, stream_id: int, fault: StreamFault) -> None:
        """Reset the stream of a malformed request (RFC 9113, 8.1.1)."""
        self._note(f"stream {stream_id}", fault)
        self._machine.reset_stream(stream_id, fault.code)
        self._answered.pop(stream_id, None)
        self._drop(self._streams.get(stream_id))
        self._guard.count_reset()

    # ------------------------------------------------------------------ events: the connection

    def _window_updated(self, event: events.WindowUpdated) -> None:
        stream = self._streams.get(event.stream_id)  # 0 is the connection, which is for all of them
        if stream is not None:
            self._unblock(stream)

    def _settings_changed(self, event: events.SettingsChanged) -> None:
        """Look at every window again: the initial size of all of them may have changed (RFC 9113, 6.9.2)."""
        for stream in self._streams.values():
            self._unblock(stream)

    def _goaway_received(self, event: events.GoawayReceived) -> None:
        """Finish what is under way; a client that leaves for a fault of ours is worth a line."""
        if event.code != ErrorCodes.NO_ERROR:
            error_log.debug("%s says GOAWAY %d", format_address(self._facts.client), event.code)
        if self._phase is _OPEN:
            self._phase = _LEAVING

    def _priority_changed(self, event: events.PriorityChanged) -> None:
        """Apply a PRIORITY_UPDATE, or keep it for a stream that is still to come (RFC 9218, 7.1)."""
        priority = parse_priority(event.value)
        stream = self._streams.get(event.stream_id)
        if stream is not None:
            self._sender.discard(stream)
            stream.priority = priority
            self._unblock(stream)
        elif self._machine.is_idle(event.stream_id):
            self._early_priorities.keep(event.stream_id, priority)
            if len(self._early_priorities.kept) + self._open_requests > self._worker.config.max_streams:
                raise ConnectionFault(ErrorCodes.PROTOCOL_ERROR, "priorities for more streams than may be")

    # ------------------------------------------------------------------ applications

    def _start(self) -> None:
        """Start a turn's worth of applications, once all of a read is fed; none for a request that was reset in the same read."""
        if not self._starting or self._machine.behind:
            return
        due = self._starting[:STARTS_PER_TURN]
        del self._starting[:STARTS_PER_TURN]
        for stream in due:
            if stream.exchange is not None:
                stream.exchange.start()
        if self._starting:  # there are more, or one of them pushes
            self._flush_later()

    # ------------------------------------------------------------------ sending

    def _flush_soon(self) -> None:
        if self._reading or self._flush_scheduled:
            return
        if self._sender or self._starting:
            self._flush_later()

    def _flush_later(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._worker.loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_scheduled = False
        if self._phase is not _CLOSED:
            self._start()
            self._flush()
            self._rest()

    def _flush(self) -> None:
        if self._sender.flush(self._transport):
            self._stalls.begin()

    def _balance_reading(self) -> None:
        """Read no further while there is enough to do, or while a client that talks does not read our answers."""
        unread = self._transport.get_write_buffer_size() if self._sender.full else 0
        high = self._worker.config.write_high_mark + (0 if self._paused else _MAX_UNREAD)
        paused = self._machine.behind or unread > high
        if paused == self._paused or self._transport.is_closing():
            return
        self._paused = paused
        if paused:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _take_turn(self) -> None:
        """Go on with what has been read."""
        if self._machine.behind and self._phase is not _CLOSED:
            self.data_received(b"")

    def _sent_all(self, stream: Http2Stream) -> None:
        """Let go of a stream whose response has left; for a while, the client may finish sending.

        A WebSocket that ends has already waited for the client's close frame, or long enough.
        """
        stream.exchange = None
        if stream.receiving:
            self._answered[stream.id] = 0
            if stream.tunnel or not self._worker.config.max_drain:
                self.stop_upload(stream.id)
            else:
                self._stalls.begin()
        self._drop(stream)

    def _unblock(self, stream: Http2Stream) -> None:
        stream.blocked = False
        self._sender.add(stream)

    # ------------------------------------------------------------------ endings

    @property
    def _open_requests(self) -> int:
        """How many streams of the client are open, as it sees it."""
        return len(self._streams) - self._pushed + len(self._answered)

    def _drop(self, stream: Http2Stream | None) -> None:
        """Part from a stream that the machine has closed; what its application never took is credited."""
        if stream is None:
            return
        del self._streams[stream.id]
        if self._pushed and stream.id % 2 == 0:
            self._pushed -= 1
        if stream.pending_bytes:  # else it waits for no turn
            self._sender.discard(stream)
        if stream.owed:  # the window of the connection is for all streams, and would shrink for good
            self._machine.acknowledge_received_data(stream.owed, stream.id)
            stream.owed = 0
        if stream.exchange is not None and stream.id % 2:
            self._slots.keep(stream.exchange)
        stream.let_go()

    def _rest(self) -> None:
        """Close a connection that is done, or start the deadline of an idle one."""
        if self._streams or self._answered or self._machine.behind:
            return
        if self._phase is _CLOSED or self._transport.is_closing():
            return
        if self._phase is _LEAVING and self._retiring:
            self._warn()
            self._flush()
        elif self._phase in (_LEAVING, _ANNOUNCED):
            self._announce()
            self._close()
        elif self._phase is _OPEN and self.deadline == NEVER:
            self.deadline = self._worker.clock.now() + self._worker.config.keep_alive_timeout

    def _leave_soon(self, patience: float) -> None:
        """Close when no stream is left, and in so many seconds say that this is so."""
        self._phase = _LEAVING
        self.deadline = self._worker.clock.now() + patience

    def _warn(self) -> None:
        """Ask for no more streams, and give those that are on their way the time to arrive."""
        self._phase = _WARNED
        self._machine.say_leaving()
        self.deadline = self._worker.clock.now() + _WARNED_SECONDS

    def _announce(self) -> None:
        self.deadline = NEVER
        if self._phase is not _ANNOUNCED:
            self._phase = _ANNOUNCED
            self._machine.say_goaway(ErrorCodes.NO_ERROR)

    def _close(self) -> None:
        """Close: what was said still leaves, and what the client still says is dropped."""
        self._leave()
        data = self._machine.data_to_send()
        if not self._transport.is_closing():
            self._transport.write(data)
        Lingering(self._transport, self._worker, self._facts)

    def _leave(self) -> None:
        self._phase = _CLOSED
        self.deadline = NEVER
        self._worker.clock.forget(self)
        self._stalls.end()
        self._answered.clear()
        self._starting.clear()
        for stream in list(self._streams.values()):
            self._drop(stream)
        self._worker.leave(self)

    def _note(self, where: str, fault: StreamFault | ConnectionFault) -> None:
        error_log.debug("%s %s: %d %s", format_address(self._facts.client), where, fault.code, fault)
        if fault.limit is not None:
            self._guard.log(fault.limit, f"HTTP/2 {where}: {fault}")


if TYPE_CHECKING:
    _connection: type[Connection] = Http2Connection
    _carrier: type[Carrier] = Http2Connection
    _patient: type[Patient] = Http2Connection
