"""The content of a request: which bytes of the connection belong to it, and what they say.

h11 decodes it. But only bytes that have been checked here reach h11: where one request ends and
the next begins is never a matter of lenience (RFC 9112, 6 and 7.1). Knows no connection and no I/O.

Invariants:
- What is behind the content stays in the buffer, untouched.
- h11 gets what one read brings as one chunk, however many it was: it takes its time for each.
- Chunk extensions and the trailer section are checked and dropped: nobody here understands the
  ones (RFC 9112, 7.1.1), and ASGI has no place for the other.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

import h11

from ..core.config import Config
from ..core.errors import StreamFault
from .http1_grammar import TOKEN, malformed, read_field

_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*+"'
# RFC 9112, 7.1 and 7.1.1, with the white space that it asks recipients to bear.
_CHUNK_LINE: Final = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[ \t]*+;[ \t]*+%b(?:[ \t]*+=[ \t]*+(?:%b|%b))?+)*+" % (TOKEN, TOKEN, _QUOTED)
)
_MAX_CHUNK: Final = 2**63 - 1  # what others count in; larger is an attack, not an upload
_MAX_LINE: Final = 8 * 1024  # nginx: large_client_header_buffers 8k, likewise per line
# Chunks may be a byte each. After so many sizes, contents and ends it is the turn of others.
_STEPS_PER_READ: Final = 600
_MAX_EXTENSIONS: Final = 16 * 1024  # of one request, in bytes; Node: 16 KiB
# RFC 9110, 6.5.1: fields for framing and routing never stand in a trailer section.
_NEVER_TRAILERS: Final = frozenset(
    (
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)


class FramedContent(ABC):
    """The content of one request.

    Attributes:
        remaining: How many bytes are still to come, as far as is known.
        ended: Whether its end has been read.
    """

    __slots__ = ("_framer", "ended", "remaining")

    def __init__(self, framer: h11.Connection, remaining: int = 0) -> None:
        self._framer = framer
        self.remaining = remaining
        self.ended = False

    @abstractmethod
    def _admit(self, buffer: bytearray) -> bytes:
        """Take from the front of the buffer what belongs to this content, in the form that h11 is to see.

        Raises:
            StreamFault: With the status to answer.
        """

    def take(self, data: bytes) -> bool:
        """Take nothing: all content passes through h11."""
        return False

    def read(self, buffer: bytearray) -> bytes:
        """Take from the front of the buffer what belongs to this content, and decode it; of many chunks, some.

        Raises:
            StreamFault: With the status to answer. The connection cannot be used any further.
        """
        admitted = self._admit(buffer)
        framer = self._framer
        if admitted:
            framer.receive_data(admitted)
        pieces = []
        while True:
            event = framer.next_event()
            if isinstance(event, h11.Data):
                pieces.append(event.data)
            else:
                self.ended = isinstance(event, h11.EndOfMessage)
                return b"".join(pieces)


class MeasuredContent(FramedContent):
    """Content whose length was announced (RFC 9112, 6.2), or no content at all."""

    __slots__ = ()

    def _admit(self, buffer: bytearray) -> bytes:
        piece = bytes(buffer[: self.remaining])
        del buffer[: len(piece)]
        self.remaining -= len(piece)
        return piece


class ChunkedContent(FramedContent):
    """Content in chunks (RFC 9112, 7.1); what is known to remain is the rest of the current chunk."""

    __slots__ = ("_announced", "_config", "_extensions_bytes", "_step", "_trailer_bytes", "_trailer_fields")

    def __init__(self, framer: h11.Connection, config: Config) -> None:
        super().__init__(framer)
        self._config = config
        self._announced = 0
        self._step: Callable[[ChunkedContent, bytearray], bytes] | None = ChunkedContent._read_size
        self._extensions_bytes = 0
        self._trailer_bytes = 0
        self._trailer_fields = 0

    def _admit(self, buffer: bytearray) -> bytes:
        pieces: list[bytes] = []
        # Each step takes something from the buffer, or finds that what is there is not enough for it.
        while self._step is not None and buffer and len(pieces) < _STEPS_PER_READ:
            before = len(buffer)
            pieces.append(self._step(self, buffer))
            if len(buffer) == before:
                break
        data = b"".join(pieces)
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        return chunk if self._step is not None else chunk + b"0\r\n\r\n"

    def _read_size(self, buffer: bytearray) -> bytes:
        line = _take_line(buffer)
        if line is None:
            return b""
        matched = _CHUNK_LINE.fullmatch(line)
        if matched is None:
            raise malformed("a malformed chunk size or extension")
        self.remaining = int(matched[1], 16)
        if self.remaining > _MAX_CHUNK:
            raise malformed("a chunk too large")
        self._announced += self.remaining
        check_length(self._announced, self._config)
        self._extensions_bytes += len(line) - len(matched[1])
        if self._extensions_bytes > _MAX_EXTENSIONS:
            raise malformed("too many chunk extensions")
        self._step = ChunkedContent._read_chunk if self.remaining else ChunkedContent._read_trailer
        return b""

    def _read_chunk(self, buffer: bytearray) -> bytes:
        piece = bytes(buffer[: self.remaining])
        del buffer[: len(piece)]
        self.remaining -= len(piece)
        if not self.remaining:
            self._step = ChunkedContent._read_chunk_end
        return piece

    def _read_chunk_end(self, buffer: bytearray) -> bytes:
        if not b"\r\n".startswith(buffer[:2]):
            raise malformed("a chunk longer than its size")
        if len(buffer) >= 2:
            del buffer[:2]
            self._step = ChunkedContent._read_size
        return b""

    def _read_trailer(self, buffer: bytearray) -> bytes:
        line = _take_line(buffer)
        if line is None:
            return b""
        if not line:
            self._step = None
            return b""
        self._trailer_fields += 1
        self._trailer_bytes += len(line)
        config = self._config
        if self._trailer_fields > config.max_fields or self._trailer_bytes > config.max_head_bytes:
            raise StreamFault(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the trailer section is too large",
                limit="max_fields" if self._trailer_fields > config.max_fields else "max_head_bytes",
            )
        name, _ = read_field(line)
        if name in _NEVER_TRAILERS:
            raise malformed("a field that cannot be a trailer")
        return b""


def check_length(length: int, config: Config) -> None:
    """Refuse content that is longer than `--max-body` as soon as it says so, before it is there.

    Raises:
        StreamFault: It is (413).
    """
    if 0 < config.max_body < length:
        raise StreamFault(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "the request content is too large", limit="max_body"
        )


def _take_line(buffer: bytearray) -> bytes | None:
    """Take a line from the front of the buffer and return it without its end; None while it is unfinished.

    Raises:
        StreamFault: It is too long, or ends in a bare LF.
    """
    end = buffer.find(b"\n", 0, _MAX_LINE)
    if end < 0:
        if len(buffer) >= _MAX_LINE:
            raise malformed("a line of the content is too long")
        return None
    line = bytes(buffer[:end])
    if not line.endswith(b"\r"):
        raise malformed("a line ends in LF without CR")
    del buffer[: end + 1]
    return line[:-1]
