"""HttpExchange: one ASGI http conversation over one stream, of whatever wire.

Two halves. The request half queues what the wire feeds until the application receives it. The
response half is a table: which message is legal in which state, and what it does. The head is
held until the first body message, so that head, body and end leave in one `Stream.send`, a
crash before it can still become a 500, and early hints can still go out.

Knows nothing of framing, windows or timeouts; those are the wire's.
"""

# ruff: noqa: SLF001 - the table at the end is a part of the class

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import Enum
from typing import Any, Final, TypeAlias

from .asgi import Field, Fields, Message, Scope
from .errors import Disconnected, UnexpectedMessage
from .exchange import CLOSED, NO_HEAD, Head, Stream, Waiters
from .fields import Apart, checked_fields, checked_value, sort_fields
from .files import FilePart, open_whole_file, part_of_open_file, read_piece
from .outcome import Outcome
from .request_ids import name_of
from .worker import Worker

# What only the server says (RFC 9110, 7.6.1 and RFC 9113, 8.2.2); `connection: close` is heard, then dropped.
_SERVER_ONLY: Final = frozenset((b"transfer-encoding", b"keep-alive", b"proxy-connection", b"te", b"upgrade"))
# What the server looks at, because it would say it too.
_NOTED: Final = Apart(_SERVER_ONLY | {b"connection", b"content-length", b"date", b"server"})
_WITHOUT_CONTENT: Final = frozenset((204, 205, 304))  # RFC 9110, 6.4.1 and 15.3.6
_WITHOUT_LENGTH: Final = frozenset((204, 205))  # RFC 9110, 8.6; 205 says 0, see below
_NEVER_TRAILERS: Final = _SERVER_ONLY | {b"connection", b"content-length", b"host", b"trailer"}
# What may stand in `:path` (RFC 3986, 3.3 and 3.4): no white space, no control, no fragment.
_PUSH_PATH: Final = re.compile(r"/[\x21\x22\x24-\x7e]*")
# Parts of the content that are kept as they came; what comes behind them is put together.
_MAX_CHUNKS: Final = 64
# One that is as large is given to the application alone: to copy it would cost more than another message.
_LARGE_CHUNK: Final = 64 * 1024
_TRY_AGAIN: Final = ((b"retry-after", b"1"),)
# More digits than any length has; `int` would refuse thousands of them with an error of its own.
_MAX_LENGTH_DIGITS: Final = 18


class State(Enum):
    """How far the response is; the value completes the sentence "the response is ..."."""

    START = "not started"
    HELD = "started, its head not yet sent"
    BODY = "in its body"
    FILE = "sending a file"
    TRAILERS = "waiting for its trailers"
    COMPLETE = "complete"

    moves: "dict[str, _Move]"
    """Which message is legal, and what it does; see `MOVES`."""


# By names of their own, because `State.START` takes four times as long, on Python 3.11 ten times.
_START, _HELD, _BODY, _FILE, _TRAILERS, _COMPLETE = State


class HttpExchange:
    """An ASGI http conversation: the wire's `Exchange` and the application's `receive` and `send`."""

    __slots__ = (
        "_announced_length",
        "_answered",
        "_chunks",
        "_content_delivered",
        "_content_ended",
        "_endless",
        "_eof",
        "_fields",
        "_head",
        "_is_head",
        "_lost",
        "_no_content",
        "_readers",
        "_sent_length",
        "_state",
        "_stream",
        "_told",
        "_trailers",
        "_worker",
        "_writers",
        "running",
        "scope",
        "started_at",
    )

    def __init__(self, worker: Worker, stream: Stream, scope: Scope) -> None:
        # Fixed.
        self.scope = scope
        self.running = False
        # Asked now, because the scope is the application's: middleware may turn a HEAD into a GET.
        self._is_head = scope.get("method") == "HEAD"
        self._fields: Iterable[Field] = scope.get("headers", ())
        self._worker = worker
        self.started_at = worker.clock.now() if worker.observers else worker.clock.ticked_at
        # The request.
        self._chunks: list[bytes | bytearray] = []
        self._content_ended = False
        self._content_delivered = False
        self._eof = False
        self._told = False
        self._readers: Waiters | None = None
        # The response.
        self._stream = stream
        self._state = _START
        self._lost = False
        self._head: Head | None = None
        self._answered: Head | None = None
        self._no_content = self._is_head
        self._endless = False
        self._announced_length: int | None = None
        self._sent_length = 0
        self._trailers: Fields | None = None  # a list, if the application will send some
        self._writers: Waiters | None = None

    # ------------------------------------------------------------------ for the wire

    def start(self) -> None:
        """Run the application, or wait for a turn."""
        self._worker.dispatcher.admit(self)

    def feed(self, data: bytes) -> None:
        """Take a part of the request content; once the response is complete, nobody will ask for it."""
        if self._state is _COMPLETE:
            return
        chunks = self._chunks
        if len(chunks) < _MAX_CHUNKS:
            chunks.append(data)
        else:  # an object per byte or two would be many times what the windows allow
            if len(chunks) == _MAX_CHUNKS:
                chunks.append(bytearray())
            chunks[-1] += data
        self._wake_readers()

    def feed_end(self) -> None:
        """Take the end of the request content."""
        self._content_ended = True
        if self._readers is not None:
            self._readers.wake()

    def feed_eof(self) -> None:
        """Tell the application that the client has hung up, though it may still be listening.

        A client that has closed its sending side (`nc -N`) looks exactly like one that has gone,
        until a write fails. So `receive()` says `http.disconnect`, and `send()` goes on working. But a
        request whose turn has not come is not begun for a client that has probably gone.
        """
        if self._state is _START and not self.running:
            self.refuse()
        self._eof = True
        self._wake_readers()

    def lost(self, status: int = 0, length: int = 0) -> None:
        """Let go of a stream that is gone, and wake everything that waits."""
        if self._state is not _COMPLETE and not self._lost:
            self._lost = True
            if status:
                self._answered, self._sent_length = Head(status, []), length
            self._tell_end()
        self._stream = CLOSED
        self._wake_readers()
        self._wake_writers()

    @property
    def waiting(self) -> bool:
        """Whether the application waits for content that has yet to come."""
        return self._readers is not None and self._readers.waiting

    def resume(self) -> None:
        """Wake those who wait for room."""
        self._wake_writers()

    def shutdown(self) -> None:
        """Tell an endless response that its client has gone, so to speak; any other may finish.

        A stream of events to an EventSource has no end of its own, and its client comes back by
        itself (HTML, 9.2). An EventSource always says GET: events that answer a POST, such as the
        words of a language model, have an end.
        """
        if self._head is not None:
            self._endless = self._is_endless(self._head)
        if self._endless:
            self.feed_eof()

    # ------------------------------------------------------------------ for the application

    async def receive(self) -> Message:
        """Return the next event: `http.request` with what has arrived, or `http.disconnect`."""
        while True:
            if self._state is _COMPLETE:
                return {"type": "http.disconnect"}
            if self._chunks or (self._content_ended and not self._content_delivered):
                return self._take()
            if self._lost or self._eof:
                self._told = True
                return {"type": "http.disconnect"}
            self._stream.pull(0)
            if self._readers is None:
                self._readers = Waiters()
            await self._readers.wait()

    async def send(self, message: Message) -> None:
        """Act on a message of the application; wait while the stream has no room.

        Raises:
            UnexpectedMessage: The message is malformed, or the state forbids it.
            Disconnected: The client has gone.
        """
        if self._lost:
            raise Disconnected("the client has gone")
        try:  # as `act` does, without the cost of a call
            move = self._state.moves[message["type"]]
        except (TypeError, KeyError):
            self._reject(message)
            return
        waiting = move(self, message)
        if waiting is not None:
            await waiting
        # A head that is held takes no room; a response that is complete has none to wait for.
        if self._state is not _HELD and not self._stream.writable:
            await self._wait_writable()

    # ------------------------------------------------------------------ for the dispatcher

    @property
    def gone(self) -> bool:
        """Whether the client has left, or has its answer."""
        return self._lost or self._state is _COMPLETE

    def refuse(self) -> None:
        """Answer that the server has too much to do (RFC 9110, 15.6.4); the application will never run."""
        if not self._stream.refuse():
            self.answer(503, b"Service Unavailable", _TRY_AGAIN)

    def finished(self, error: BaseException | None) -> str | None:
        """Complete what the application left open: a 500, or a cut that nobody can take for complete.

        Returns:
            What is wrong with a response that was left incomplete without an error; None if nothing is.
        """
        if self._lost or self._state is _COMPLETE:
            return None
        complaint = None
        if error is None and not self._eof:  # whoever was told `http.disconnect` may well stop in the middle
            complaint = f"application returned while the response was {self._state.value}"
        if self._state is _START or self._head is not None:
            self.answer(500, b"Internal Server Error")
        else:
            self._cut()
        return complaint

    # ------------------------------------------------------------------ for siblings in this room

    @property
    def outcome(self) -> Outcome:
        """What observers would be told if it ended now."""
        head = self._answered or NO_HEAD
        now = self._worker.clock.now()
        seconds = now - self.started_at
        return self.scope, head.status, head.fields, self._sent_length, seconds, now, self._stream.id

    @property
    def complete(self) -> bool:
        """Whether the response has been handed over whole."""
        return self._state is _COMPLETE

    @property
    def deaf(self) -> bool:
        """Whether this is an endless response whose application has not asked, so cannot know, that it shall end."""
        return self._endless and not self._told and self._state is not _COMPLETE

    def answer(self, status: int, text: bytes, fields: Sequence[Field] = ()) -> None:
        """Send a whole answer of the server's own, in place of the application's.

        Args:
            status: The HTTP status code.
            text: One line of plain text for the client; it says nothing about our insides.
            fields: What the head says besides.
        """
        self._trailers = None
        self._no_content = self._is_head
        content_type = (b"content-type", b"text/plain; charset=utf-8")
        named = name_of(self.scope) if self._worker.config.request_id else ()
        self._head = self._answered = self._checked_head(status, [content_type, *fields, *named])
        self._emit(text, False)

    # ------------------------------------------------------------------ request half

    def _take(self) -> Message:
        chunks = self._chunks
        if len(chunks) > 1 and len(chunks[0]) < _LARGE_CHUNK:
            body = b"".join(chunks)
            chunks.clear()
        else:
            body = bytes(chunks.pop(0)) if chunks else b""
        more = bool(chunks) or not self._content_ended
        self._content_delivered = not more
        if body:
            self._stream.pull(len(body))
        return {"type": "http.request", "body": body, "more_body": more}

    async def _wait_writable(self) -> None:
        while not self._stream.writable:
            if self._writers is None:
                self._writers = Waiters()
            await self._writers.wait()
        if self._lost:
            raise Disconnected("the client has gone")

    def _wake_readers(self) -> None:
        if self._readers is not None:
            self._readers.wake()

    def _wake_writers(self) -> None:
        if self._writers is not None:
            self._writers.wake()

    # ------------------------------------------------------------------ response half

    def act(self, message: Message) -> Awaitable[None] | None:
        """Make the move that a message asks for, without waiting for room.

        Returns:
            Something to wait for, if the move takes its time (a file).

        Raises:
            UnexpectedMessage: The message is malformed, or the state forbids it.
        """
        try:
            move = self._state.moves[message["type"]]
        except (TypeError, KeyError):
            self._reject(message)
            return None
        return move(self, message)

    def _reject(self, message: Message) -> None:
        """Say what is wrong with a message for which there is no move; behind the end, only if nobody knows it."""
        try:
            kind = message["type"]
        except (TypeError, KeyError):
            raise UnexpectedMessage("a message is a dict with a type") from None
        if not isinstance(kind, str):
            raise UnexpectedMessage(f"the type of a message is a str, not {kind!r}")
        if self._state is not _COMPLETE or kind not in _KNOWN_TYPES:
            legal = ", ".join(self._state.moves) or "nothing"
            raise UnexpectedMessage(f"{kind!r} while the response is {self._state.value}; legal: {legal}")

    def _start(self, message: Message) -> None:
        status = message.get("status")
        if not isinstance(status, int) or not 200 <= status <= 999:
            raise UnexpectedMessage(f"the status of a response is an int from 200 to 999, not {status!r}")
        head = self._made_head(status, message.get("headers", ()))
        if message.get("trailers", False):
            self._trailers = []
        if status in _WITHOUT_CONTENT:
            self._no_content = True
        self._head = self._answered = head
        self._state = _HELD

    def _made_head(self, status: int, pairs: Any) -> Head:
        """Return the head that an application asks for: the one that it asks for again and again, or a new one."""
        worker = self._worker
        last, date = worker.repetition, worker.clock.date
        if type(pairs) is list and pairs == last.pairs and status == last.status and date is last.date:
            self._announced_length = last.length
            return last.head
        head = self._checked_head(status, pairs)
        if worker.hsts_field is None:  # which depends on the request
            last.consider(pairs, date, head, self._announced_length)
        return head

    def _checked_head(self, status: int, pairs: Any) -> Head:
        fields, noted = sort_fields(pairs, _NOTED)
        length, close, says_date, says_server = _read_noted(noted, fields, status)
        self._announced_length = length
        worker = self._worker
        if not says_date:
            fields.append((b"date", worker.clock.date))
        if worker.server_field is not None and not says_server:
            fields.append(worker.server_field)
        if worker.hsts_field is not None:
            self._add_hsts(fields, worker.hsts_field)
        if status == 205:  # RFC 9110, 15.3.6: the client must not wait for content.
            fields.append((b"content-length", b"0"))
        return Head(status, fields, length is not None or status == 205, close)

    def _add_hsts(self, fields: Fields, hsts: Field) -> None:
        """Add `strict-transport-security`, unless the application has said it.

        Never in the clear (RFC 6797, 7.2). Where a proxy in front speaks TLS, its word is in the scheme.
        """
        if self.scope.get("scheme") in ("https", "wss") and hsts[0] not in dict(fields):
            fields.append(hsts)

    def _body(self, message: Message) -> None:
        body = message.get("body", b"")
        if not isinstance(body, bytes):
            if not isinstance(body, bytearray | memoryview):
                raise UnexpectedMessage(f"a body is bytes, not {type(body).__name__}")
            body = bytes(body)
        self._emit(body, bool(message.get("more_body", False)))

    def _emit(self, body: bytes, more: bool) -> None:
        """Send a part of the body, with the head if it is still held; nothing incorrect gets out."""
        if self._no_content:
            body, more = b"", False
        else:
            length, announced = self._sent_length + len(body), self._announced_length
            if announced is not None and (more or length != announced):
                self._check_length(length, announced, more=more)
            self._sent_length = length
        head, self._head = self._head, None
        stream = self._stream
        if not more and (self._no_content or self._trailers is None):
            if head is not None and not head.measured and not self._no_content:
                head.fields.append((b"content-length", b"%d" % len(body)))
                head.measured = True
            self._complete()
            stream.send(head, body, True)
            return
        self._state = _BODY if more else _TRAILERS
        if head is not None:
            self._endless = self._is_endless(head)
            if self._worker.closing:
                self.shutdown()
        if head is not None or body:
            stream.send(head, body, False)

    def _is_endless(self, head: Head) -> bool:
        return self.scope.get("method") == "GET" and any(
            name == b"content-type" and value.lower().startswith(b"text/event-stream")
            for name, value in head.fields
        )

    def _check_length(self, total: int, announced: int, *, more: bool) -> None:
        """Hold the body, with its next part, against the announced content-length (RFC 9110, 8.6)."""
        if total > announced or (total < announced and not more):
            word = "longer" if total > announced else "shorter"
            raise UnexpectedMessage(
                f"the body is {word} than its content-length: {total} instead of {announced} bytes"
            )

    def _complete(self) -> None:
        """Let go of the stream: what the application does from now on concerns nobody."""
        self._state = _COMPLETE
        worker = self._worker
        if worker.observers:  # as `_tell_end` does, without the cost of two calls
            head, now = self._answered or NO_HEAD, worker.clock.now()
            seconds = now - self.started_at
            outcome = self.scope, head.status, head.fields, self._sent_length, seconds, now, self._stream.id
            for observe in worker.observers:
                observe(outcome)
        self._stream = CLOSED
        if self._chunks:
            self._chunks.clear()
        if self._readers is not None:
            self._readers.wake()
        if self._writers is not None:
            self._writers.wake()

    def _send_trailers(self, message: Message) -> None:
        trailers = self._trailers
        assert trailers is not None
        trailers += checked_fields(message.get("headers", ()), without=_NEVER_TRAILERS)
        if message.get("more_trailers", False):
            return
        stream = self._stream
        wanted = trailers and self._accepts_trailers()
        self._complete()
        if wanted:
            stream.send_trailers(trailers)
        else:
            stream.send(None, b"", True)

    def _accepts_trailers(self) -> bool:
        """Whether the client said `te: trailers` (RFC 9110, 6.5.1)."""
        for name, value in self._fields:
            if name == b"te" and any(
                part.partition(b";")[0].strip() == b"trailers" for part in value.lower().split(b",")
            ):
                return True
        return False

    def _early_hint(self, message: Message) -> Awaitable[None] | None:
        self._require("http.response.early_hint")
        try:
            links = [(b"link", checked_value(b"link", link)) for link in message["links"]]
        except (KeyError, TypeError):
            raise UnexpectedMessage("the links of an early hint are an iterable of bytes") from None
        if links:
            self._stream.send_informational(103, links)
        return None if self._stream.writable else self._wait_writable()

    def _push(self, message: Message) -> Awaitable[None] | None:
        self._require("http.response.push")
        path = message.get("path")
        if not isinstance(path, str) or not _PUSH_PATH.fullmatch(path):
            raise UnexpectedMessage(f"the path of a push is an encoded path with a slash, unlike {path!r}")
        fields = checked_fields(message.get("headers", ()), without=_SERVER_ONLY)
        self._stream.push(path.encode("ascii"), fields)
        return None if self._stream.writable else self._wait_writable()

    def _require(self, extension: str) -> None:
        if extension not in self.scope["extensions"]:
            raise UnexpectedMessage(f"{extension!r} is not among the extensions of this scope")

    # ------------------------------------------------------------------ files

    async def _zero_copy_send(self, message: Message) -> None:
        """Act on `http.response.zerocopysend`: a part of an open file, among body messages."""
        self._require("http.response.zerocopysend")
        part = part_of_open_file(message)
        await self._send_file(part, more=bool(message.get("more_body", False)))
        if message.get("offset") is None:
            message["file"].seek(part.offset + part.length)

    async def _path_send(self, message: Message) -> None:
        """Act on `http.response.pathsend`: a whole file, which ends the response."""
        self._require("http.response.pathsend")
        part = open_whole_file(message)
        try:
            await self._send_file(part, more=False)
        finally:
            os.close(part.descriptor)

    async def _send_file(self, part: FilePart, *, more: bool) -> None:
        """Send a part of a file as a part of the body; no other message is legal meanwhile."""
        if self._no_content:
            self._emit(b"", False)
            return
        if self._announced_length is not None:
            self._check_length(self._sent_length + part.length, self._announced_length, more=more)
        self._state = _FILE
        try:
            if self._stream.zero_copy and part.length:
                await self._pass_file(part)
            else:
                await self._copy_file(part)
        finally:
            if self._state is _FILE:
                self._state = _BODY if self._head is None else _HELD
        if not more:
            self._emit(b"", False)

    async def _pass_file(self, part: FilePart) -> None:
        """Let the kernel send the file.

        Whatever goes wrong ends the response, for nobody knows how much of the file has left.
        """
        if self._head is not None:
            self._emit(b"", True)
            self._state = _FILE
        stream = self._stream
        try:
            sent = await stream.send_file(*part)
        except Disconnected:
            self.lost()
            stream.abort()
            raise
        except BaseException:
            if self._state is _FILE:
                self._cut()
            raise
        self._check_sending()
        self._sent_length += sent
        if sent < part.length:
            self._cut()
            raise UnexpectedMessage("the file became shorter while it was sent")

    async def _copy_file(self, part: FilePart) -> None:
        """Read the file and send it like any body, where the kernel cannot: TLS must see the bytes."""
        done = 0
        while done < part.length:
            piece = await read_piece(part, done)
            self._check_sending()
            if not piece:
                raise UnexpectedMessage("the file became shorter while it was sent")
            done += len(piece)
            self._emit(piece, True)
            self._state = _FILE
            await self._wait_writable()
            self._check_sending()

    def _check_sending(self) -> None:
        """Raise Disconnected if the response has ended while its file was read or sent."""
        if self._lost or self._state is not _FILE:
            raise Disconnected("the response has ended")

    # ------------------------------------------------------------------ endings

    def _cut(self) -> None:
        stream = self._stream
        self._complete()
        stream.abort()

    def _tell_end(self) -> None:
        if self._worker.observers:
            outcome = self.outcome
            for observe in self._worker.observers:
                observe(outcome)


def _read_noted(noted: Fields, fields: Fields, status: int) -> tuple[int | None, bool, bool, bool]:
    """Add what goes out of the fields that the server looks at.

    Returns:
        The length of the content, if it was said; whether `close`, a date and a server were.
    """
    length: int | None = None
    close = has_date = has_server = False
    for field in noted:
        name, value = field
        if name == b"content-length":
            if status not in _WITHOUT_LENGTH:
                if length is None:
                    fields.append(field)
                length = _content_length(value, length)
        elif name == b"connection":
            close = close or b"close" in value.lower()
        elif name not in _SERVER_ONLY:
            fields.append(field)
            has_date = has_date or name == b"date"
            has_server = has_server or name == b"server"
    return length, close, has_date, has_server


def _content_length(value: bytes, known: int | None) -> int:
    """Read a content-length (RFC 9110, 8.6); one that is said twice must say the same."""
    if value.isdigit() and len(value) <= _MAX_LENGTH_DIGITS:
        length = int(value)
        if known is None or length == known:
            return length
    raise UnexpectedMessage(f"content-length {value!r} is not one number of bytes")


_Move: TypeAlias = Callable[[HttpExchange, Message], Awaitable[None] | None]

MOVES: Final[dict[State, dict[str, _Move]]] = {
    State.START: {
        "http.response.start": HttpExchange._start,
        "http.response.early_hint": HttpExchange._early_hint,
    },
    State.HELD: {
        "http.response.body": HttpExchange._body,
        "http.response.zerocopysend": HttpExchange._zero_copy_send,
        "http.response.pathsend": HttpExchange._path_send,
        "http.response.early_hint": HttpExchange._early_hint,
        "http.response.push": HttpExchange._push,
    },
    State.BODY: {
        "http.response.body": HttpExchange._body,
        "http.response.zerocopysend": HttpExchange._zero_copy_send,
        "http.response.push": HttpExchange._push,
    },
    State.FILE: {},
    State.TRAILERS: {"http.response.trailers": HttpExchange._send_trailers},
    State.COMPLETE: {},
}
"""Which message is legal in which state, and what it does."""

for _state, _moves in MOVES.items():
    _state.moves = _moves  # found faster there: the hash of a member is computed anew each time

_KNOWN_TYPES: Final = frozenset(kind for moves in MOVES.values() for kind in moves)
