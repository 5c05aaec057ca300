"""The plain lane of HTTP/1.1: requests without any oddity are read and answered without h11.

Plain is a request with a common method, a path, one Host, at most one Content-Length, and nothing
else that could change what it means: no Transfer-Encoding, Upgrade, Expect or unusual Connection, no
HTTP/1.0. Every other head is left to `http1_head`, whose judgement and whose faults are so the only ones.

Invariants:
- What is read here, `http1_head.read_head` reads likewise; what is written here says what h11 would
  say. Property-based tests hold the two against each other.
- A field line is checked once per connection: those that a client repeats are remembered, within a
  bound, and never for another client. Those that its heads begin with are not even cut into lines.
"""

import re
from typing import TYPE_CHECKING, Final

from ..core.asgi import Field, Fields
from ..core.exchange import Head
from .http1_grammar import AUTHORITY, FIELD_LINE, LENGTH
from .http1_request import Content, Http1Request, Response
from .http1_response import REASONS

_METHODS: Final = {
    name.encode(): name for name in ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
}
# Lines are cut at LF, which is found in half the time that CR LF takes, and so still have their CR.
_VERSION: Final = b"HTTP/1.1\r"
# A table in which whatever a target cannot have becomes another: a target stays as it is.
_TARGET: Final = bytes(c if c in range(0x21, 0x7F) and c != ord("#") else ord("/") for c in range(256))
_FIELD_LINE: Final = re.compile(FIELD_LINE.pattern + rb"\r")
# What says how the exchange goes on; it is looked at every time.
_FRAMING: Final = frozenset((b"connection", b"content-length", b"host"))
# Likewise, and for h11 to understand.
_ODD: Final = frozenset((b"expect", b"transfer-encoding", b"upgrade"))
# A browser sends some fifteen lines with every request, and one or two of them are new each time.
_MAX_KNOWN_LINES: Final = 64
_MAX_KNOWN_LENGTH: Final = 1024  # of a line, in bytes
_MAX_REPEATED: Final = 512  # of a whole head, in bytes
_STATUS_LINES: Final = {
    status: b"HTTP/1.1 %d %b" % (status, reason) for status, reason in REASONS.items() if status >= 200
}
_LINE: Final = b": ".join  # makes a field line of a field
_ONLY_HOST: Final = (0, True)  # what `_read_framing` makes of a Host field alone
_WITHOUT_CONTENT: Final = frozenset((204, 304))  # RFC 9112, 6.3


class PlainHeads:
    """Reads the plain heads of one connection."""

    __slots__ = ("_began_with", "_beginning", "_host", "_host_line", "_known", "_last", "_said")

    def __init__(self) -> None:
        self._known: dict[bytes, Field] = {}
        self._host_line = b""
        self._host: Field = (b"host", b"")
        self._beginning = b""  # field lines that the last heads began with, one Host among them
        self._began_with: Fields = []
        self._last = b""  # a head without content; many a client says the same again and again
        self._said: tuple[str, bytes, bytes, Fields]

    def read(self, raw: bytes, max_fields: int) -> Http1Request | None:
        """Read a whole request head; None if it is not plain, or not a request.

        Args:
            raw: What may be a head with the empty line that ends it. With anything behind that it is not plain.
            max_fields: The most fields.
        """
        if raw == self._last:
            method, path, query, fields = self._said
            return _bare_request(method, path, query, fields.copy())
        line, _, section = raw.partition(b"\n")
        try:
            name, target, version = line.split(b" ", 2)
            method = _METHODS[name]
        except (KeyError, ValueError):
            return None
        if version != _VERSION or target[:1] != b"/" or target.translate(_TARGET) != target:
            return None
        said = self._read_section(section)
        if said is None:
            return None
        fields, (length, keep_alive) = said
        if len(fields) > max_fields:
            return None
        path, _, query = target.partition(b"?")
        if length or not keep_alive:
            content = PlainContent(length) if length else NO_CONTENT
            return Http1Request(
                method, path, query, fields, "1.1", content, PlainResponse(method), keep_alive, False
            )
        if len(raw) <= _MAX_REPEATED:
            self._last, self._said = raw, (method, path, query, fields.copy())
        return _bare_request(method, path, query, fields)

    def _read_section(self, section: bytes) -> tuple[Fields, tuple[int, bool]] | None:
        """Return fields, the length of the content in bytes, and whether another request may follow.

        None if a line is not plain, or all of them together.
        """
        if section.startswith(self._beginning):
            lines = section[len(self._beginning) :].split(b"\n")
            fields = self._began_with.copy()
        else:
            lines = section.split(b"\n")
            fields = []
        begun = len(fields)
        if lines.pop() or not lines or lines.pop() != b"\r":
            return None
        known = self._known
        new = begun + len(lines)  # the place of the first line that is; now behind them all
        framing: Fields = []  # but for the Host that it began with
        for line in lines:
            field = known.get(line)
            if field is None:
                if line == self._host_line:
                    field = self._host
                else:
                    field = self._learn(line)
                    if field is None:
                        return None
                    new = min(new, len(fields))
                if field[0] in _FRAMING:
                    framing.append(field)
            fields.append(field)
        framed = _ONLY_HOST if begun and not framing else _read_framing(framing, hosts=1 if begun else 0)
        if framed is None:
            return None
        if begun < new < len(fields):  # more lines came again than are remembered, or others
            repeated = b"".join([line + b"\n" for line in lines[: new - begun]])
            self._begin_with(self._beginning + repeated if begun else repeated, fields[:new])
        return fields, framed

    def _begin_with(self, beginning: bytes, fields: Fields) -> None:
        """Remember what heads begin with, if Host is there: what follows is then held against it."""
        if self._host in fields:
            self._beginning, self._began_with = beginning, fields

    def _learn(self, line: bytes) -> Field | None:
        """Check a field line that is new on this connection; None if it is for h11."""
        parts = _FIELD_LINE.fullmatch(line)
        if parts is None:
            return None
        name, value = parts.groups()
        name = name.lower()
        field = (name, value.strip(b" \t"))
        if name in _FRAMING:
            if name == b"host":
                if not AUTHORITY.fullmatch(field[1]):
                    return None
                self._host_line, self._host = line, field
            if name != b"connection" or field[1].lower() != b"keep-alive":  # which goes without saying
                return field
        if name in _ODD:
            return None
        if len(line) <= _MAX_KNOWN_LENGTH:
            if len(self._known) >= _MAX_KNOWN_LINES:
                self._known.clear()
            self._known[line] = field
        return field


def _bare_request(method: str, path: bytes, query: bytes, fields: Fields) -> Http1Request:
    """Make a request without content, behind which another may follow."""
    response = PlainResponse(method)
    return Http1Request(method, path, query, fields, "1.1", NO_CONTENT, response, True, False)


def _read_framing(framing: Fields, hosts: int) -> tuple[int, bool] | None:
    """Return the length of the content in bytes, and whether another request may follow; None if not plain.

    Args:
        framing: The fields that say so.
        hosts: How many Host fields there are besides.
    """
    length: int | None = None
    keep_alive = True
    for name, value in framing:
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            if length is not None or not LENGTH.fullmatch(value):
                return None
            length = int(value)
        elif value.lower() == b"close":
            keep_alive = False
        elif value.lower() != b"keep-alive":
            return None
    return (length or 0, keep_alive) if hosts == 1 else None


class NoContent:
    """The content of a request without any; one for all of them, for there is nothing to remember."""

    __slots__ = ()

    remaining: Final = 0
    ended: Final = True

    def take(self, data: bytes) -> bool:
        """Take nothing."""
        return False

    def read(self, buffer: bytearray) -> bytes:
        """Take nothing."""
        return b""


NO_CONTENT: Final = NoContent()


class PlainContent:
    """Content whose length was announced (RFC 9112, 6.2).

    Attributes:
        remaining: How many bytes are still to come.
        ended: Whether its end has been read.
    """

    __slots__ = ("ended", "remaining")

    def __init__(self, length: int) -> None:
        self.remaining = length
        self.ended = False

    def take(self, data: bytes) -> bool:
        """Take a whole read, if it is content and nothing else; of an upload that saves two copies."""
        if len(data) > self.remaining:
            return False
        self.remaining -= len(data)
        self.ended = not self.remaining
        return True

    def read(self, buffer: bytearray) -> bytes:
        """Take from the front of the buffer what belongs to this content."""
        if len(buffer) <= self.remaining:
            piece = bytes(buffer)
            buffer.clear()
        else:
            piece = bytes(buffer[: self.remaining])
            del buffer[: self.remaining]
        self.remaining -= len(piece)
        self.ended = not self.remaining
        return piece


class PlainResponse:
    """Turns the response to a plain request into bytes, part by part, as `Http1Response` does with h11.

    Attributes:
        begun: Whether the final head has been sent.
    """

    __slots__ = ("_chunked", "_method", "begun")

    ends_by_close: Final = False
    wants_continue: Final = False

    def __init__(self, method: str) -> None:
        self._method = method
        self._chunked = False
        self.begun = False

    def encode(self, head: Head | None, body: bytes, end: bool, close: bool) -> bytes:
        """Return the bytes of a part of the response; see `Response.encode`."""
        if head is None:
            if not self._chunked:
                return body
            return _chunk(body) + b"0\r\n\r\n" if end else _chunk(body)
        self.begun = True
        status, fields = head.status, head.fields
        if head.repeated:
            head.text = head.text or _text(status, fields)
            if not close:  # its length is known
                return b"%b\r\n\r\n%b" % (head.text, body)
            lines = [head.text]
        else:
            lines = [_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status, *map(_LINE, fields)]
        if close:
            lines.append(b"connection: close")
        if not (head.measured or status in _WITHOUT_CONTENT):
            lines.append(b"Transfer-Encoding: chunked")
            if self._method != "HEAD":
                self._chunked = True
                body = _chunk(body) + b"0\r\n\r\n" if end else _chunk(body)
        lines += (b"", body)
        return b"\r\n".join(lines)

    def encode_informational(self, status: int, fields: Fields) -> bytes:
        """Return the bytes of a 1xx head."""
        return b"\r\n".join((b"HTTP/1.1 %d %b" % (status, REASONS[status]), *map(_LINE, fields), b"", b""))

    def encode_trailers(self, fields: Fields) -> bytes:
        """Return the bytes of the end; only chunks have a place for trailers (RFC 9112, 7.1.2)."""
        if not self._chunked:
            return b""
        return b"\r\n".join((b"0", *map(_LINE, fields), b"", b""))

    def encode_around(self, length: int) -> tuple[bytes, bytes]:
        """Return the bytes before and after `length` bytes of body that are sent by somebody else."""
        return (b"%x\r\n" % length, b"\r\n") if self._chunked and length else (b"", b"")


def _text(status: int, fields: Fields) -> bytes:
    """Return a head as it is written, without the end of its last line."""
    return b"\r\n".join((_STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status, *map(_LINE, fields)))


def _chunk(data: bytes) -> bytes:
    """Return a chunk (RFC 9112, 7.1); no data makes none, for an empty one would be the end."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


if TYPE_CHECKING:
    _contents: tuple[type[Content], ...] = (NoContent, PlainContent)
    _response: type[Response] = PlainResponse
