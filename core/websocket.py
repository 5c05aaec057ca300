"""WebSocketExchange: one ASGI websocket conversation over one stream, of whatever wire.

The wire hands in a handshake and, once that is accepted, the raw bytes of the tunnel; a codec
turns them into messages. Before the application accepts, everything that denies the handshake is
an ordinary HTTP response, and is left to an HttpExchange.

Invariants:
- Bytes are parsed only while fewer than `_HIGH` bytes and `_MANY` messages wait for the application,
  and credit goes back to the wire only when none wait: a slow application stalls its own client.
- What the client sent before it left, or before it broke the protocol, reaches the application
  first; then the application gets its chance to answer.
- After our close frame, only the client's is of interest.
- What costs us time and is no message (pings, pongs, crumbs of messages) is counted, for no application
  that is slow holds it back; it is dealt with in turns with others, and so is what inflates to much.
"""

# ruff: noqa: SLF001 - the table at the end is a part of the class

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import Final, TypeAlias

from .asgi import Address, Message, Scope
from .clock import NEVER
from .codec import Close, Codec, Crumb, Handshake, Pause, Ping, Pong, TooBig, Violation
from .errors import Disconnected, UnexpectedMessage
from .exchange import CLOSED, NO_HEAD, Stream, Waiters
from .http import HttpExchange
from .limits import Budget
from .outcome import Outcome
from .websocket_messages import read_accept, read_close, read_denial, read_send
from .worker import Worker

_HIGH: Final = 64 * 1024
# Unpacked in some 10 ms: a read of 256 KiB has 40,000 of the smallest, and others want their turn.
_MANY: Final = 1024
# What is no message is dealt with in turns as well: a ping takes wsproto almost 0.1 ms.
_CONTROLS_PER_TURN: Final = 16

# Close codes (RFC 6455, 7.4.1; 1012: the IANA registry).
_NORMAL, _ABNORMAL, _POLICY, _TOO_BIG, _INTERNAL_ERROR, _RESTART = 1000, 1006, 1008, 1009, 1011, 1012


class State(Enum):
    """How far the conversation is; the value completes the sentence "the websocket is ..."."""

    CONNECTING = "not accepted yet"
    DENYING = "being denied with an HTTP response"
    OPEN = "open"
    CLOSING = "closed by the server, its client has not answered"
    CLOSED = "closed"

    moves: "dict[str, _Move]"
    """Which message is legal, and what it does; see `MOVES`."""


_OPEN: Final = State.OPEN  # found faster there


class WebSocketExchange:
    """An ASGI websocket conversation: the wire's `Exchange` and the application's `receive` and `send`."""

    __slots__ = (
        "_answered",
        "_behind",
        "_blamed",
        "_budget",
        "_client",
        "_close_code",
        "_close_reason",
        "_closed_by_app",
        "_codec",
        "_connect_delivered",
        "_denial",
        "_early",
        "_handshake",
        "_messages",
        "_parse_due",
        "_pinged",
        "_pong_due",
        "_queued_bytes",
        "_readers",
        "_refilled",
        "_sent_bytes",
        "_state",
        "_stream",
        "_uncredited",
        "_violation",
        "_worker",
        "_writers",
        "deadline",
        "running",
        "scope",
        "started_at",
    )
    __deletable__ = ("_handshake",)

    def __init__(self, worker: Worker, stream: Stream, scope: Scope, handshake: Handshake) -> None:
        # Fixed.
        self.scope = scope
        self.running = False
        self._worker = worker
        self._handshake = handshake
        self.started_at = worker.clock.now()
        self._client: Address | None = scope["client"]  # the application may write another one there
        # This conversation.
        self._stream = stream
        self._state = State.CONNECTING
        self._answered = NO_HEAD
        self._denial: HttpExchange | None = None
        self._codec: Codec | None = None  # from accept until nothing the client says matters any more
        self._connect_delivered = False
        self._closed_by_app = False
        self._close_code = _ABNORMAL  # until a close frame says otherwise (RFC 6455, 7.1.5)
        self._close_reason = ""
        # From the client.
        self._early: bytearray | None = None
        self._messages: list[str | bytes] = []  # a deque takes ten times as much for nothing
        self._queued_bytes = 0
        self._refilled = False
        self._behind = False  # whether more of what came may be parsed
        self._parse_due = False
        self._uncredited = 0
        self._violation: Violation | TooBig | None = None
        self._budget: Budget | None = None
        self._blamed = False
        self._readers = Waiters()
        # To the client.
        self._pong_due: bytes | None = None
        self._sent_bytes = 0
        self._writers = Waiters()
        # Until when the client may be silent, or may take to close.
        self.deadline = NEVER
        self._pinged = False

    # ------------------------------------------------------------------ for the wire

    def start(self) -> None:
        """Run the application; at once, for a WebSocket is a connection rather than a request."""
        self._worker.dispatcher.start(self)

    def feed(self, data: bytes) -> None:
        """Take bytes of the tunnel; also those of a client too hasty to wait until it is accepted."""
        self._uncredited += len(data)
        if self._codec is not None:
            self._put_off_ping()
            self._codec.feed(data)
            if not self._parse_due:
                self._parse()
        elif self._state is State.CONNECTING:
            self._early = self._early or bytearray()
            self._early += data
        else:
            self._give_credit()

    def feed_end(self) -> None:
        """Take the end of the tunnel: the client will send no more, so the conversation is over."""
        while self._parse_due:
            self._parse_in_turn()
        if self._state is not State.DENYING:
            self._end(b"")

    def feed_eof(self) -> None:
        """Take the end of the connection's input; like `feed_end`."""
        self.feed_end()

    def lost(self, status: int = 0, length: int = 0) -> None:
        """Let go of a stream that is gone, and wake everything that waits."""
        if self._denial is not None:
            self._denial.lost(status, length)
        self._end(None)

    @property
    def waiting(self) -> bool:
        """Whether the application waits for the client."""
        return self._readers.waiting

    def resume(self) -> None:
        """Wake those who wait for room; a client that reads is alive, even if it says nothing."""
        self._put_off_ping()
        due, self._pong_due = self._pong_due, None
        if due is not None and self._codec is not None and self._state is State.OPEN:
            self._stream.send(None, self._codec.pong(due), False)
        self._writers.wake()

    def shutdown(self) -> None:
        """Close with 1012 and tell the application at once; a handshake under way is left to it."""
        if self._state is State.OPEN:
            self._close_code, self._close_reason = _RESTART, "server shutting down"
            self._close(self._close_code, self._close_reason)

    def expire(self) -> None:
        """Act on a deadline: a client that does not answer our close frame, or is silent."""
        config = self._worker.config
        if self._state is State.CLOSING:
            self._worker.limits.hits["ws_close_timeout"] += 1
            self._end(b"")
        elif self._violation is not None:
            self._fail(self._violation)
        elif self._messages:  # the application is slow, and an answer may wait behind what it has not taken
            self._put_off_ping()
        elif self._pinged and config.ws_ping_timeout:
            self._worker.limits.hits["ws_ping_timeout"] += 1
            self._fail(Violation(_INTERNAL_ERROR, "ping timeout"))
        else:
            assert self._codec is not None
            self._stream.send(None, self._codec.ping(), False)
            self._pinged = True
            self.deadline = self._worker.clock.now() + (config.ws_ping_timeout or config.ws_ping_interval)

    # ------------------------------------------------------------------ for the application

    async def receive(self) -> Message:
        """Return the next event: connect, then messages, then disconnect for ever."""
        if not self._connect_delivered:
            self._connect_delivered = True
            return {"type": "websocket.connect"}
        if self._refilled:  # a client that sends without end shall not keep the loop from everybody else
            self._refilled = False
            await asyncio.sleep(0)
        while not self._messages:
            if self._state is not _OPEN and self._is_over():
                return {
                    "type": "websocket.disconnect",
                    "code": self._close_code,
                    "reason": self._close_reason,
                }
            if self._violation is not None:
                self._fail(self._violation)
                continue
            self._stream.pull(0)
            await self._readers.wait()
        return self._take()

    async def send(self, message: Message) -> None:
        """Act on a message of the application; wait while the stream has no room.

        Raises:
            UnexpectedMessage: The message is malformed, or the state forbids it.
            Disconnected: The client has gone, or is being sent away.
        """
        if self._state is not _OPEN:
            self._check_connected()
        self._move(message)
        while not self._stream.writable and self._state is not State.CLOSING:
            await self._writers.wait()
            self._check_connected()

    # ------------------------------------------------------------------ for the dispatcher

    def finished(self, error: BaseException | None) -> str | None:
        """Complete what the application left open.

        Before accept that is a 500; afterwards a close frame: 1011 after an error, 1000 otherwise.
        """
        complaint = None
        if self._state is State.CONNECTING:
            self._answer(500, b"Internal Server Error")
            complaint = None if error else "application returned before it answered the handshake"
        elif self._denial is not None and self._state is State.DENYING:
            complaint = self._denial.finished(error)
            self._settle(self._denial)
        elif self._state is State.OPEN:
            if self._violation is not None:
                self._fail(self._violation)
            else:
                self._close(_INTERNAL_ERROR if error else _NORMAL, "")
        self._drop_messages()
        return complaint

    # ------------------------------------------------------------------ for siblings in this room

    @property
    def outcome(self) -> Outcome:
        """What observers would be told if it ended now."""
        head = self._answered
        now = self._worker.clock.now()
        seconds = now - self.started_at
        return self.scope, head.status, head.fields, self._sent_bytes, seconds, now, self._stream.id

    # ------------------------------------------------------------------ the application's moves

    def _check_connected(self) -> None:
        """Tell an application that goes on although its client does not.

        Raises:
            Disconnected: The conversation is over, and it was not the application that ended it.
        """
        if self._state in (State.CLOSING, State.CLOSED) and not self._closed_by_app:
            raise Disconnected("the client has gone")

    def _move(self, message: Message) -> None:
        try:
            kind = message["type"]
            move = self._state.moves.get(kind)
        except (TypeError, KeyError):
            raise UnexpectedMessage("a message is a dict with a type, which is a str") from None
        if move is None:
            legal = ", ".join(self._state.moves) or "nothing"
            raise UnexpectedMessage(f"{kind!r} while the websocket is {self._state.value}; legal: {legal}")
        move(self, message)

    def _accept(self, message: Message) -> None:
        subprotocol, fields = read_accept(message)
        names = {name for name, _ in fields}
        if b"date" not in names:
            fields.append((b"date", self._worker.clock.date))
        if b"server" not in names and self._worker.server_field is not None:
            fields.append(self._worker.server_field)
        head, codec = self._handshake.accept(subprotocol, fields)
        del self._handshake  # a WebSocket may be open for days
        self._state = State.OPEN
        if self._worker.observers:  # nobody else asks
            self._answered = head
        self._codec = codec
        self._put_off_ping()
        self._worker.clock.watch(self)
        self._stream.send(head, b"", False)
        if self._early:
            codec.feed(self._early)
            self._early = None
            self._parse()
        else:
            self._give_credit()
        if self._worker.closing:
            self.shutdown()

    def _send_message(self, message: Message) -> None:
        payload = read_send(message)
        assert self._codec is not None
        try:
            frame = self._codec.message(payload)
        except UnicodeEncodeError as error:  # half of a surrogate pair
            raise UnexpectedMessage(f"text is not Unicode: {error}") from error
        self._sent_bytes += len(frame)
        self._stream.send(None, frame, False)

    def _close_message(self, message: Message) -> None:
        code, reason = read_close(message)
        self._close(code, reason)
        self._closed_by_app = True
        self._drop_messages()

    def _refuse(self, message: Message) -> None:
        """Act on `websocket.close` before accept: 403 (ASGI www, Close)."""
        self._answer(403, b"Forbidden")

    def _start_denial(self, message: Message) -> None:
        if "websocket.http.response" not in self.scope["extensions"]:
            raise UnexpectedMessage("'websocket.http.response' is not among the extensions of this scope")
        denial = self._new_denial()
        denial.act(read_denial(message))
        self._deny_with(denial)

    def _deny(self, message: Message) -> None:
        """Act on a part of the body of a denial."""
        assert self._denial is not None
        self._denial.act({**message, "type": "http.response.body"})
        self._settle(self._denial)

    def _answer(self, status: int, text: bytes) -> None:
        """Deny the handshake with an answer of the server's own."""
        denial = self._new_denial()
        self._deny_with(denial)
        denial.answer(status, text)
        self._settle(denial)

    def _new_denial(self) -> HttpExchange:
        denial = HttpExchange(self._worker, self._stream, self.scope)
        denial.started_at = self.started_at
        return denial

    def _deny_with(self, denial: HttpExchange) -> None:
        self._denial = denial
        self._state = State.DENYING
        self._early = None
        self._give_credit()

    def _settle(self, denial: HttpExchange) -> None:
        """Close this conversation when its denial is complete."""
        if denial.complete:
            self._state = State.CLOSED
            self._closed_by_app = True
            self._stream = CLOSED
            self._readers.wake()

    # ------------------------------------------------------------------ the client's events

    def _parse(self) -> None:
        """Read what the client sent, until enough of it waits for the application, or it is the turn of others."""
        controls = 0
        self._behind = True
        while (codec := self._codec) is not None:
            full = self._queued_bytes >= _HIGH or len(self._messages) >= _MANY
            if full and self._state is not State.CLOSING:
                break
            event = codec.next_event()
            if event is None:
                self._behind = False
                break
            if not isinstance(event, str | bytes):
                self._control(codec, event)
                controls += 1
                if controls == _CONTROLS_PER_TURN or isinstance(event, Pause):
                    self._parse_later()
                    break
            elif self._state is not State.CLOSING:
                self._messages.append(event)
                self._queued_bytes += len(event)
            elif not self._spend():  # nobody has to unpack so much that nobody will receive
                self._end(b"")
        if self._messages:
            self._readers.wake()
        elif not self._parse_due:
            self._give_credit()

    def _parse_later(self) -> None:
        if not self._parse_due:
            self._parse_due = True
            self._worker.loop.call_soon(self._parse_in_turn)

    def _parse_in_turn(self) -> None:
        if self._parse_due:
            self._parse_due = False
            self._parse()

    def _control(self, codec: Codec, event: Ping | Pong | Crumb | Pause | Close | Violation | TooBig) -> None:
        if isinstance(event, Ping | Pong | Crumb):
            if not self._spend():
                self._stop_flood()
            elif isinstance(event, Ping):
                self._answer_ping(codec, event.payload)
        elif isinstance(event, Close):
            if self._close_code == _ABNORMAL:
                self._close_code, self._close_reason = event.code, event.reason
            self._end(codec.close(event.code, "") if self._state is State.OPEN else b"")
        elif isinstance(event, Violation) and self._state is State.CLOSING:
            self._end(b"")  # the answer to our close frame will not be understood
        elif isinstance(event, Violation | TooBig) and self._state is State.OPEN:
            if isinstance(event, TooBig):
                self._blame(event.setting, f"{event.reason}, and this WebSocket client sent more")
            self._note_violation(event)

    def _answer_ping(self, codec: Codec, payload: bytes) -> None:
        if self._state is not State.OPEN:
            return
        if self._stream.writable:
            self._stream.send(None, codec.pong(payload), False)
        else:
            # A client that pings and does not read would fill our memory with pongs; only the
            # newest ping needs an answer (RFC 6455, 5.5.3).
            self._pong_due = payload

    def _spend(self) -> bool:
        """Use some of what a client may send that is no message; tell whether there was enough left."""
        if self._budget is None:
            self._budget = Budget(self._worker.clock, self._worker.config.max_control_frames)
        return self._budget.spend()

    def _stop_flood(self) -> None:
        """Close at once, without reading on: whoever floods waits for nothing of ours."""
        reason = "too many control frames or empty fragments"
        self._blame("max_control_frames", f"{reason} in a WebSocket, which was closed")
        self._fail(Violation(_POLICY, reason))
        self._codec = None

    def _blame(self, setting: str, what: str) -> None:
        """Count that the client went beyond a limit, and log what it did first."""
        limits = self._worker.limits
        if self._blamed:
            limits.hits[setting] += 1
        else:
            self._blamed = True
            limits.hit(setting, self._client, what)

    def _note_violation(self, violation: Violation | TooBig) -> None:
        """Fail the connection when the application next receives, or when its time is up.

        By then it has had everything that came before, and has said what it had to say to that.
        """
        if self._violation is None:
            self._violation = violation
            self.deadline = self._worker.clock.now() + self._worker.config.ws_close_timeout
            self._readers.wake()

    def _take(self) -> Message:
        payload = self._messages.pop(0)  # of at most `_MANY`
        self._queued_bytes -= len(payload)
        if not self._messages:
            if self._behind:
                self._parse()
                self._refilled = bool(self._messages)
            else:
                self._give_credit()
        if isinstance(payload, str):
            return {"type": "websocket.receive", "text": payload}
        return {"type": "websocket.receive", "bytes": payload}

    def _give_credit(self) -> None:
        taken, self._uncredited = self._uncredited, 0
        if taken:
            self._stream.pull(taken)

    def _put_off_ping(self) -> None:
        """Let the client be silent for another interval before it is asked whether it is there."""
        interval = self._worker.config.ws_ping_interval
        if interval and self._state is State.OPEN and self._violation is None:
            self._pinged = False
            self.deadline = self._worker.clock.now() + interval

    # ------------------------------------------------------------------ endings

    def _is_over(self) -> bool:
        """Whether there is nothing more to wait for, not even the client's answer to our close frame."""
        return self._state is State.CLOSED or (self._state is State.CLOSING and self._close_code != _ABNORMAL)

    def _close(self, code: int, reason: str) -> None:
        """Begin the closing handshake (RFC 6455, 7.1.2)."""
        assert self._codec is not None
        frame = self._codec.close(code, reason)
        self._state = State.CLOSING
        self._violation = None
        self.deadline = self._worker.clock.now() + self._worker.config.ws_close_timeout
        self._stream.send(None, frame, False)
        self._readers.wake()
        self._writers.wake()

    def _fail(self, violation: Violation | TooBig) -> None:
        """Fail the connection (RFC 6455, 7.1.7): a close frame, and no waiting for the answer.

        A client whose message is too big is understood well enough to be waited for; it may still be
        sending, and would never see our close frame if the connection were cut.
        """
        if isinstance(violation, TooBig):
            self._close(_TOO_BIG, violation.reason)
        else:
            assert self._codec is not None
            self._close_reason = violation.reason
            self._end(self._codec.close(violation.code, violation.reason))

    def _drop_messages(self) -> None:
        """Forget what nobody will receive; the client's close frame may be behind it."""
        self._messages.clear()
        self._queued_bytes = 0
        if self._state is State.CLOSED:
            self._codec = None
        self._parse()

    def _end(self, farewell: bytes | None) -> None:
        """Let go of the stream, and wake everybody who waits.

        Args:
            farewell: The last bytes for the client; None if it is not there to hear them.
        """
        state, self._state = self._state, State.CLOSED
        if state is State.CLOSED:
            return
        if state is State.CLOSING:
            self._codec = None
        self._worker.clock.forget(self)
        if state is not State.DENYING:
            self._tell_end()
        if farewell is not None:
            self._give_credit()
        stream, self._stream = self._stream, CLOSED
        self._readers.wake()
        self._writers.wake()
        if farewell is None:
            return
        if state is State.CONNECTING:
            stream.abort()
        else:
            stream.send(None, farewell, True)

    def _tell_end(self) -> None:
        if self._worker.observers:
            outcome = self.outcome
            for observe in self._worker.observers:
                observe(outcome)


_Move: TypeAlias = Callable[[WebSocketExchange, Message], None]

MOVES: Final[dict[State, dict[str, _Move]]] = {
    State.CONNECTING: {
        "websocket.accept": WebSocketExchange._accept,
        "websocket.close": WebSocketExchange._refuse,
        "websocket.http.response.start": WebSocketExchange._start_denial,
    },
    State.DENYING: {"websocket.http.response.body": WebSocketExchange._deny},
    State.OPEN: {
        "websocket.send": WebSocketExchange._send_message,
        "websocket.close": WebSocketExchange._close_message,
    },
    State.CLOSING: {},
    State.CLOSED: {},
}
"""Which message is legal in which state, and what it does."""

for _state, _moves in MOVES.items():
    _state.moves = _moves  # found faster there: the hash of a member is computed anew each time
