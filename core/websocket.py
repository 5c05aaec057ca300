"""WebSocketExchange: one ASGI websocket conversation over one stream, of whatever wire.

The wire hands in a handshake and, once that is accepted, the raw bytes of the tunnel; a codec
turns them into messages. Before the application accepts, everything that denies the handshake is
an ordinary HTTP response, and is left to an HttpExchange.

Invariants:
- Bytes are parsed only while fewer than `_HIGH` bytes of messages wait for the application, and
  credit goes back to the wire only when none wait: a slow application stalls its own client.
- After the close frame of one side, only the close frame of the other is of interest.
"""

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Any, Final, TypeAlias

from .asgi import Message, Scope
from .clock import NEVER
from .codec import Close, Codec, Handshake, Ping, Pong, Violation
from .errors import Disconnected, UnexpectedMessage
from .exchange import CLOSED, Stream, Waiters
from .fields import checked_fields
from .http import HttpExchange
from .log import log_request
from .worker import Worker

_HIGH: Final = 64 * 1024
_NO_CODE, _ABNORMAL, _NORMAL, _INTERNAL_ERROR, _RESTART = 1005, 1006, 1000, 1011, 1012
_SERVER_ONLY: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"transfer-encoding",
        b"upgrade",
    )
)


class State(Enum):
    """How far the conversation is; the value completes the sentence "the websocket is ..."."""

    CONNECTING = "not accepted yet"
    DENYING = "being denied with an HTTP response"
    OPEN = "open"
    CLOSING = "closed by the server, its client has not answered"
    CLOSED = "closed"


class WebSocketExchange:
    """An ASGI websocket conversation: the wire's `Exchange` and the application's `receive` and `send`."""

    __slots__ = (
        "_close_code",
        "_close_reason",
        "_closed_by_app",
        "_codec",
        "_connect_delivered",
        "_denial",
        "_handshake",
        "_heard",
        "_messages",
        "_pinged",
        "_queued_bytes",
        "_readers",
        "_sent_bytes",
        "_started_at",
        "_state",
        "_status",
        "_stream",
        "_uncredited",
        "_worker",
        "_writers",
        "deadline",
        "scope",
    )

    def __init__(self, worker: Worker, stream: Stream, scope: Scope, handshake: Handshake) -> None:
        # Fixed.
        self.scope = scope
        self._worker = worker
        self._handshake = handshake
        self._started_at = worker.clock.now()
        # This conversation.
        self._stream = stream
        self._state = State.CONNECTING
        self._status = 0
        self._denial: HttpExchange | None = None
        self._codec: Codec | None = None
        self._connect_delivered = False
        self._closed_by_app = False
        self._close_code = _ABNORMAL
        self._close_reason = ""
        # From the client.
        self._messages: deque[str | bytes] = deque()
        self._queued_bytes = 0
        self._uncredited = 0
        self._readers = Waiters()
        # To the client.
        self._sent_bytes = 0
        self._writers = Waiters()
        # Keep-alive.
        self.deadline = NEVER
        self._heard = False
        self._pinged = False

    # ------------------------------------------------------------------ for the wire

    def feed(self, data: bytes) -> None:
        """Take bytes of the tunnel."""
        self._uncredited += len(data)
        self._heard = True
        if self._codec is not None:
            self._codec.feed(data)
            self._parse()
        else:  # A denied client may say what it likes; it is credited so that nothing stalls.
            self._give_credit()

    def feed_end(self) -> None:
        """Take the end of the tunnel: the client will send no more, so the conversation is over."""
        if self._state is not State.DENYING:
            self._end(send_end=True)

    def feed_eof(self) -> None:
        """Take the end of the connection's input; like `feed_end`."""
        self.feed_end()

    def lost(self) -> None:
        """Let go of a stream that is gone, and wake everything that waits."""
        if self._denial is not None:
            self._denial.lost()
        self._end(send_end=False)

    def resume(self) -> None:
        """Wake those who wait for room."""
        if self._denial is not None:
            self._denial.resume()
        self._writers.wake()

    def shutdown(self) -> None:
        """Close with 1012 and tell the application at once; a handshake under way is left to it."""
        if self._state is State.OPEN:
            self._close(_RESTART, "server shutting down")
            self._close_code, self._close_reason = _RESTART, "server shutting down"

    def expire(self) -> None:
        """Ping a silent client; give up on one that does not answer."""
        config = self._worker.config
        if self._state is State.CLOSING:
            self._end(send_end=True)
        elif self._heard:
            self._heard = self._pinged = False
            self.deadline = self._worker.clock.now() + config.ws_ping_interval
        elif self._pinged:
            self._fail(_INTERNAL_ERROR, "ping timeout")
        else:
            assert self._codec is not None
            self._stream.send(None, self._codec.ping(), False)
            self._pinged = True
            self.deadline = self._worker.clock.now() + (config.ws_ping_timeout or NEVER)

    # ------------------------------------------------------------------ for the application

    async def receive(self) -> Message:
        """Return the next event: connect, then messages, then disconnect for ever."""
        if not self._connect_delivered:
            self._connect_delivered = True
            return {"type": "websocket.connect"}
        while not self._messages:
            if self._state in (State.CLOSED, State.CLOSING) and not self._awaits_answer():
                return {
                    "type": "websocket.disconnect",
                    "code": self._close_code,
                    "reason": self._close_reason,
                }
            self._stream.pull(0)
            await self._readers.wait()
        return self._take()

    async def send(self, message: Message) -> None:
        """Act on a message of the application; wait while the stream has no room.

        Raises:
            UnexpectedMessage: The message is malformed, or the state forbids it.
            Disconnected: The client has gone, or is being sent away.
        """
        if self._denial is not None and self._state is State.DENYING:
            await self._deny(self._denial, message)
            return
        if self._state in (State.CLOSED, State.CLOSING) and not self._closed_by_app:
            raise Disconnected("the client has gone")
        self._move(message)
        while not self._stream.writable:
            await self._writers.wait()
            if self._state is State.CLOSED:
                raise Disconnected("the client has gone")

    # ------------------------------------------------------------------ for the dispatcher

    def finished(self, error: BaseException | None) -> str | None:
        """Complete what the application left open.

        Before accept that is a 500; afterwards a close frame: 1011 after an error, 1000 otherwise.
        """
        if self._state is State.CONNECTING:
            self._answer(500, b"Internal Server Error")
            return None if error else "application returned before it answered the handshake"
        if self._state is State.DENYING and self._denial is not None:
            complaint = self._denial.finished(error)
            self._settle(self._denial)
            return complaint
        if self._state is State.OPEN:
            self._close(_INTERNAL_ERROR if error else _NORMAL, "")
        # Nobody reads any more, so what waits can be let go and the client's close frame be seen.
        self._messages.clear()
        self._queued_bytes = 0
        if self._state is State.CLOSING:
            self._parse()
        return None

    # ------------------------------------------------------------------ the application's moves

    def _move(self, message: Message) -> None:
        try:
            kind = message["type"]
            move = MOVES[self._state].get(kind)
        except (TypeError, KeyError):
            raise UnexpectedMessage("a message is a dict with a type, which is a str") from None
        if move is None:
            legal = ", ".join(MOVES[self._state]) or "nothing"
            raise UnexpectedMessage(f"{kind!r} while the websocket is {self._state.value}; legal: {legal}")
        move(self, message)

    def _accept(self, message: Message) -> None:
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and not isinstance(subprotocol, str):
            raise UnexpectedMessage(f"a subprotocol is a str, not {type(subprotocol).__name__}")
        fields = checked_fields(message.get("headers") or (), without=_SERVER_ONLY)
        names = {name for name, _ in fields}
        if b"date" not in names:
            fields.append((b"date", self._worker.clock.date))
        if b"server" not in names and self._worker.server_field is not None:
            fields.append(self._worker.server_field)
        head, self._codec = self._handshake.accept(subprotocol, fields)
        self._state = State.OPEN
        self._status = head.status
        if self._worker.config.ws_ping_interval:
            self.deadline = self._worker.clock.now() + self._worker.config.ws_ping_interval
            self._worker.clock.watch(self)
        self._stream.send(head, b"", False)
        if self._worker.closing:
            self.shutdown()

    def _send_message(self, message: Message) -> None:
        text, data = message.get("text"), message.get("bytes")
        if (text is None) == (data is None):
            raise UnexpectedMessage("websocket.send has either bytes or text, and not both")
        payload = data if text is None else text
        if text is not None and not isinstance(text, str):
            raise UnexpectedMessage(f"text is a str, not {type(text).__name__}")
        if data is not None and not isinstance(data, bytes):
            if not isinstance(data, bytearray | memoryview):
                raise UnexpectedMessage(f"bytes are bytes, not {type(data).__name__}")
            payload = bytes(data)
        assert self._codec is not None
        frame = self._codec.message(payload)  # type: ignore[arg-type] # str or bytes, as checked above
        self._sent_bytes += len(frame)
        self._stream.send(None, frame, False)

    def _close_message(self, message: Message) -> None:
        code, reason = message.get("code", _NORMAL), message.get("reason") or ""
        code = _NORMAL if code is None else code
        if not isinstance(code, int) or not (code == _NO_CODE or _is_sendable(code)):
            raise UnexpectedMessage(f"{code!r} is not a close code that may be sent (RFC 6455, 7.4)")
        if not isinstance(reason, str):
            raise UnexpectedMessage(f"a reason is a str, not {type(reason).__name__}")
        self._close(code, reason)
        self._closed_by_app = True

    def _refuse(self, message: Message) -> None:
        """Act on `websocket.close` before accept: 403 (ASGI www, Close)."""
        self._answer(403, b"Forbidden")

    def _start_denial(self, message: Message) -> None:
        if "websocket.http.response" not in self.scope["extensions"]:
            raise UnexpectedMessage("'websocket.http.response' is not among the extensions of this scope")
        denial = HttpExchange(self._worker, self._stream, self.scope)
        denial.act({**message, "type": "http.response.start"})
        self._denial = denial
        self._state = State.DENYING

    def _answer(self, status: int, text: bytes) -> None:
        """Deny the handshake with an answer of the server's own."""
        self._state = State.DENYING
        self._denial = HttpExchange(self._worker, self._stream, self.scope)
        self._denial.answer(status, text)
        self._settle(self._denial)

    async def _deny(self, denial: HttpExchange, message: Message) -> None:
        kind = message.get("type")
        if kind != "websocket.http.response.body":
            raise UnexpectedMessage(
                f"{kind!r} while the websocket is {self._state.value}; legal: websocket.http.response.body"
            )
        await denial.send({**message, "type": "http.response.body"})
        self._settle(denial)

    def _settle(self, denial: HttpExchange) -> None:
        """Close this conversation when its denial is complete."""
        if denial.complete:
            self._state = State.CLOSED
            self._stream = CLOSED
            self._readers.wake()

    # ------------------------------------------------------------------ the client's events

    def _parse(self) -> None:
        codec = self._codec
        while codec is not None and self._queued_bytes < _HIGH and self._state is not State.CLOSED:
            event = codec.next_event()
            if event is None:
                break
            if isinstance(event, str | bytes):
                if self._state is State.OPEN:
                    self._messages.append(event)
                    self._queued_bytes += len(event)
            else:
                self._control(codec, event)
        if not self._messages:
            self._give_credit()
        else:
            self._readers.wake()

    def _control(self, codec: Codec, event: Ping | Pong | Close | Violation) -> None:
        if isinstance(event, Ping):
            if self._state is State.OPEN:
                self._stream.send(None, codec.pong(event.payload), False)
        elif isinstance(event, Close):
            if not (self._state is State.CLOSING and not self._closed_by_app):
                self._close_code, self._close_reason = event.code, event.reason
            if self._state is State.OPEN:
                self._stream.send(None, codec.close(event.code, ""), False)
            self._end(send_end=True, clean=True)
        elif isinstance(event, Violation):
            self._fail(event.code, event.reason)

    def _take(self) -> Message:
        payload = self._messages.popleft()
        self._queued_bytes -= len(payload)
        if not self._messages:
            self._parse()
        if isinstance(payload, str):
            return {"type": "websocket.receive", "text": payload}
        return {"type": "websocket.receive", "bytes": payload}

    def _give_credit(self) -> None:
        taken, self._uncredited = self._uncredited, 0
        if taken:
            self._stream.pull(taken)

    # ------------------------------------------------------------------ endings

    def _awaits_answer(self) -> bool:
        """Whether `receive()` still waits for the client's code after the application's own close."""
        return self._state is State.CLOSING and self._closed_by_app

    def _close(self, code: int, reason: str) -> None:
        """Begin the closing handshake (RFC 6455, 7.1.2)."""
        assert self._codec is not None
        self._state = State.CLOSING
        self._stream.send(None, self._codec.close(code, reason), False)
        self.deadline = self._worker.clock.now() + self._worker.config.ws_close_timeout
        self._worker.clock.watch(self)
        self._readers.wake()
        self._writers.wake()

    def _fail(self, code: int, reason: str) -> None:
        """Fail the connection (RFC 6455, 7.1.7): a close frame, and no waiting for the answer."""
        if self._state is State.OPEN and self._codec is not None:
            self._stream.send(None, self._codec.close(code, reason), False)
        self._end(send_end=True)

    def _end(self, *, send_end: bool, clean: bool = False) -> None:
        if self._state is State.CLOSED:
            return
        tunnel = self._codec is not None
        stream, self._stream = self._stream, CLOSED
        self._state = State.CLOSED
        self._worker.clock.forget(self)
        self._readers.wake()
        self._writers.wake()
        self._log_access()
        if send_end and tunnel:
            stream.send(None, b"", True)
        elif send_end:
            stream.abort()

    def _log_access(self) -> None:
        if self._worker.log_access and self._status:
            seconds = self._worker.clock.now() - self._started_at
            log_request(self.scope, self._status, self._sent_bytes, seconds)


def _is_sendable(code: int) -> bool:
    """Whether an endpoint may put this code into a close frame (RFC 6455, 7.4)."""
    return 3000 <= code <= 4999 or (1000 <= code <= 1014 and code not in (1004, 1005, 1006))


_Move: TypeAlias = Callable[[WebSocketExchange, Message], Any]

MOVES: Final[dict[State, dict[str, _Move]]] = {
    State.CONNECTING: {
        "websocket.accept": WebSocketExchange._accept,
        "websocket.close": WebSocketExchange._refuse,
        "websocket.http.response.start": WebSocketExchange._start_denial,
    },
    State.DENYING: {},
    State.OPEN: {
        "websocket.send": WebSocketExchange._send_message,
        "websocket.close": WebSocketExchange._close_message,
    },
    State.CLOSING: {},
    State.CLOSED: {},
}
"""Which message is legal in which state; while a handshake is denied, HttpExchange has the table."""
