"""The plain lane of WebSocket: whole messages, pings and pongs, each in one frame, pass by wsproto.

A plain frame is final, has no reserved bit, a mask, and its length in the shortest form; if it has a message in it, it
comes between messages. Every other frame is handed to the reference codec, byte for byte and one
at a time, so that the lane knows where the next one begins; after a fault or a close frame, all is.

Invariants:
- The same bytes make the same events as with the reference alone, however they are cut. A property-based test
  holds them against each other.
- A text of which a part has come is judged as far as it has, for one that is not UTF-8 is refused at once. Whatever is
  wrong is the reference's to say.
- Nothing is kept of a read that has been taken apart.
"""

import codecs
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from ..core.codec import Close, Codec, Event, Ping, Pong, TooBig, Violation
from ..core.config import Config
from .websocket_deflate import Deflate
from .websocket_mask import unmask

MakeReference: TypeAlias = Callable[[Config, Deflate | None], Codec]

_TEXT: Final = 0x81
_BINARY: Final = 0x82
_PING: Final = 0x89
_PONG: Final = 0x8A
_DATA: Final = (_TEXT, _BINARY)
_PINGS: Final = (_PING, _PONG)
_OPCODE: Final = 0x0F
_FINAL: Final = 0x80
_MASKED: Final = 0x80
_FIRST_CONTROL: Final = 0x8  # opcodes from here on are of control frames, which stand between fragments
_LONGEST_CONTROL: Final = 125  # bytes (RFC 6455, 5.5)
_MASK_BYTES: Final = 4
_LARGE: Final = 4096  # bytes; from here on to look at a part of a read costs less than to copy it


class PlainCodec:
    """Bytes to messages and back, for one WebSocket connection (RFC 6455, 5)."""

    __slots__ = (
        "_config",
        "_deflate",
        "_judged",
        "_largest",
        "_make_reference",
        "_odd_head",
        "_open",
        "_position",
        "_reference",
        "_rest",
        "_unparsed",
    )

    def __init__(self, make_reference: MakeReference, config: Config, deflate: Deflate | None) -> None:
        """Begin between messages.

        Args:
            make_reference: Makes the codec for all that is not plain; called when there is such a thing.
            config: For the limits.
            deflate: How messages are compressed, if that was agreed.
        """
        self._make_reference = make_reference
        self._reference: Codec | None = None
        self._config = config
        self._deflate = deflate
        self._largest = self._most  # bytes in a plain frame; -1 while the reference has a part of a message
        # What has come, and how far it is parsed: one read that is being taken apart, or a frame that is gathered.
        self._unparsed: bytes | bytearray = b""
        self._position = 0
        self._judged = 0  # bytes of a text, of which a part has come, that can be UTF-8
        self._open = True  # until the reference has said something final
        # Of the frame that is being passed on: its head, as long as that is incomplete, and what is to come.
        self._odd_head: bytearray | None = None
        self._rest = 0

    def feed(self, data: bytes | bytearray) -> None:
        """Take bytes of the peer; nothing is parsed before `next_event()`."""
        if self._unparsed:
            self._gather()
            self._unparsed += data
        else:
            self._unparsed = bytes(data)  # which costs nothing if it is bytes

    def next_event(self) -> Event | None:
        """Return the next event, or None when more bytes are needed."""
        while True:
            if self._reference is not None:
                event = self._reference.next_event()
                if event is not None:
                    self._open = self._open and not isinstance(event, Close | TooBig | Violation)
                    return event
            if not self._unparsed:
                return None
            odd_head = self._odd_head
            if not self._open:
                self._pass_on(len(self._unparsed))
            elif odd_head is not None:
                self._pass_on_head(odd_head)
            elif self._rest:
                self._rest -= len(self._pass_on(self._rest))
            else:
                event = self._read_frame()
                if event is not None:
                    return event
                if self._odd_head is None:
                    self._gather()
                    return None

    def message(self, payload: str | bytes) -> bytes:
        """Return the frame of a text or binary message."""
        if self._deflate is not None:
            return self._odd().message(payload)
        if isinstance(payload, str):
            first, data = _TEXT, payload.encode()
        else:
            first, data = _BINARY, payload
        length = len(data)
        if length < 126:
            return bytes((first, length)) + data
        if length < 0x10000:
            return bytes((first, 126)) + length.to_bytes(2) + data
        return bytes((first, 127)) + length.to_bytes(8) + data

    def ping(self) -> bytes:
        """Return a ping frame."""
        return bytes((_PING, 0))

    def pong(self, payload: bytes) -> bytes:
        """Return the pong frame that answers a ping."""
        return bytes((_PONG, len(payload))) + payload

    def close(self, code: int, reason: str) -> bytes:
        """Return a close frame; code 1005 makes one without a code. The reason is cut to 123 bytes."""
        return self._odd().close(code, reason)

    # ------------------------------------------------------------------ plain frames

    def _read_frame(self) -> str | bytes | Ping | Pong | None:
        """Return what is in a plain frame; of any other, make ready to pass it on.

        Neither means that it has not come far enough.
        """
        unparsed, start = self._unparsed, self._position
        there = len(unparsed)
        if there < start + 2:
            return None
        first, length = unparsed[start], unparsed[start + 1] - _MASKED
        content = start + 2 + _MASK_BYTES
        largest = self._largest if first in _DATA else _LONGEST_CONTROL if first in _PINGS else -1
        if 126 <= length <= largest:
            content += 2 if length == 126 else 8
            if there < content - _MASK_BYTES:
                return None
            length = _long_length(unparsed[start + 2 : content - _MASK_BYTES])
        if 0 <= length <= largest:  # it is less without a mask
            end = content + length
            if end <= there:
                event = self._take(first, content, end)
                if event is not None:
                    return event
            elif first != _TEXT or there <= content or self._can_be_text(content):
                return None
        self._odd_head = bytearray()
        self._judged = 0
        if first & _OPCODE < _FIRST_CONTROL:
            self._largest = self._most if first & _FINAL else -1
        return None

    @property
    def _most(self) -> int:
        """How many bytes a message in one frame may have."""
        return min(self._config.ws_max_message, self._config.ws_max_frame)

    def _take(self, first: int, content: int, end: int) -> str | bytes | Ping | Pong | None:
        """Take a whole frame, and return what is in it; None for a text that is not UTF-8, which stays."""
        unparsed = self._unparsed
        source = memoryview(unparsed) if end - content > _LARGE else unparsed
        data = unmask(source[content:end], unparsed[content - _MASK_BYTES : content])
        event: str | bytes | Ping | Pong = data
        if first == _TEXT:
            try:
                event = data.decode()
            except UnicodeDecodeError:
                return None
            self._judged = 0
        elif first != _BINARY:
            event = Ping(data) if first == _PING else Pong()
        self._advance(end)
        return event

    def _can_be_text(self, content: int) -> bool:
        """Judge the part of a text that has come, from where it was last judged."""
        judged = self._judged
        mask = self._unparsed[content - _MASK_BYTES : content]
        turned = judged % _MASK_BYTES
        data = unmask(self._unparsed[content + judged :], mask[turned:] + mask[:turned])
        try:
            _, length = codecs.utf_8_decode(data, "strict", False)
        except UnicodeDecodeError:
            return False
        self._judged += length
        return True

    def _gather(self) -> None:
        """Keep what is not parsed, and nothing else, for the rest of a frame to be added."""
        if not isinstance(self._unparsed, bytearray):
            self._unparsed = bytearray(memoryview(self._unparsed)[self._position :])
        else:
            del self._unparsed[: self._position]
        self._position = 0

    def _advance(self, end: int) -> None:
        """Leave behind what is parsed; when that is all, let go of it."""
        if end < len(self._unparsed):
            self._position = end
        else:
            self._unparsed = b""
            self._position = 0

    # ------------------------------------------------------------------ all others

    def _odd(self) -> Codec:
        """Return the codec for all that is not plain."""
        if self._reference is None:
            self._reference = self._make_reference(self._config, self._deflate)
        return self._reference

    def _pass_on(self, count: int) -> bytes | bytearray:
        """Hand bytes to the reference, and return them."""
        end = self._position + count
        data = self._unparsed[self._position : end]
        self._advance(end)
        self._odd().feed(data)
        return data

    def _pass_on_head(self, head: bytearray) -> None:
        """Hand the head of a frame to the reference, and learn from it how much comes behind it."""
        head += self._pass_on(_head_length(head) - len(head))
        if len(head) == _head_length(head):
            self._odd_head = None
            self._rest = _content_length(head)


def _long_length(extended: bytes | bytearray) -> int:
    """Return a length of two or eight bytes; -1 if it is not in the shortest form."""
    length = int.from_bytes(extended)
    return length if length >= (126 if len(extended) == 2 else 0x10000) else -1


def _head_length(start: bytearray) -> int:
    """Return how long the head of a frame is, by its first two bytes; 2 as long as they are not there."""
    if len(start) < 2:
        return 2
    second = start[1]
    return 2 + {126: 2, 127: 8}.get(second & 0x7F, 0) + (_MASK_BYTES if second & _MASKED else 0)


def _content_length(head: bytearray) -> int:
    length = head[1] & 0x7F
    if length < 126:
        return length
    return int.from_bytes(head[2 : 4 if length == 126 else 10])


if TYPE_CHECKING:
    _: type[Codec] = PlainCodec
