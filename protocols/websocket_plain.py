"""The plain lane of WebSocket: whole, uncompressed messages in one frame pass by wsproto.

A plain frame is final, has a message in it, no reserved bit, a mask, its length in the shortest form,
and comes between messages. Every other frame is handed to the reference codec, byte for byte and one
at a time, so that the lane knows where the next one begins; after a fault or a close frame, all is.

Invariants:
- The same bytes make the same events as with the reference alone, however they are cut. A property-based test
  holds them against each other.
- A text that has not come whole goes to the reference, which refuses what is not UTF-8 at once.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from wsproto.frame_protocol import XorMaskerSimple

from ..core.codec import Close, Codec, Event, TooBig, Violation
from ..core.config import Config
from .websocket_deflate import Deflate

MakeReference: TypeAlias = Callable[[Config, Deflate | None], Codec]

_FINAL_TEXT: Final = 0x81
_FINAL_BINARY: Final = 0x82
_FINAL_DATA: Final = (_FINAL_TEXT, _FINAL_BINARY)
_OPCODE: Final = 0x0F
_FINAL: Final = 0x80
_MASKED: Final = 0x80
_FIRST_CONTROL: Final = 0x8  # opcodes from here on are of control frames, which stand between fragments
_MASK_BYTES: Final = 4
_SHORT: Final = 512  # bytes


class PlainCodec:
    """Bytes to messages and back, for one WebSocket connection (RFC 6455, 5)."""

    __slots__ = (
        "_config",
        "_deflate",
        "_fragmented",
        "_largest",
        "_make_reference",
        "_odd_head",
        "_open",
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
        self._largest = min(config.ws_max_message, config.ws_max_frame)
        self._unparsed = bytearray()
        self._open = True  # until the reference has said something final
        self._fragmented = False  # whether the reference has a part of a message
        # Of the frame that is being passed on: its head, as long as that is incomplete, and what is to come.
        self._odd_head: bytearray | None = None
        self._rest = 0

    def feed(self, data: bytes | bytearray) -> None:
        """Take bytes of the peer; nothing is parsed before `next_event()`."""
        self._unparsed += data

    def next_event(self) -> Event | None:
        """Return the next event, or None when more bytes are needed."""
        while True:
            if self._reference is not None:
                event = self._reference.next_event()
                if event is not None:
                    self._open = self._open and not isinstance(event, Close | TooBig | Violation)
                    return event
            unparsed = self._unparsed
            if not unparsed:
                return None
            if not self._open:
                self._pass_on(len(unparsed))
            elif self._odd_head is not None:
                self._pass_on_head(self._odd_head)
            elif self._rest:
                self._rest -= len(self._pass_on(self._rest))
            else:
                message = self._read_frame(unparsed)
                if message is not None or self._odd_head is None:
                    return message

    def message(self, payload: str | bytes) -> bytes:
        """Return the frame of a text or binary message."""
        if self._deflate is not None:
            return self._odd().message(payload)
        if isinstance(payload, str):
            first, data = _FINAL_TEXT, payload.encode()
        else:
            first, data = _FINAL_BINARY, payload
        length = len(data)
        if length < 126:
            return bytes((first, length)) + data
        if length < 0x10000:
            return bytes((first, 126)) + length.to_bytes(2) + data
        return bytes((first, 127)) + length.to_bytes(8) + data

    def ping(self) -> bytes:
        """Return a ping frame."""
        return self._odd().ping()

    def pong(self, payload: bytes) -> bytes:
        """Return the pong frame that answers a ping."""
        return self._odd().pong(payload)

    def close(self, code: int, reason: str) -> bytes:
        """Return a close frame; code 1005 makes one without a code. The reason is cut to 123 bytes."""
        return self._odd().close(code, reason)

    def _odd(self) -> Codec:
        """Return the codec for all that is not plain."""
        if self._reference is None:
            self._reference = self._make_reference(self._config, self._deflate)
        return self._reference

    def _pass_on(self, count: int) -> bytearray:
        """Hand bytes to the reference, and return them."""
        data = self._unparsed[:count]
        del self._unparsed[:count]
        self._odd().feed(data)
        return data

    def _pass_on_head(self, head: bytearray) -> None:
        """Hand the head of a frame to the reference, and learn from it how much comes behind it."""
        head += self._pass_on(_head_length(head) - len(head))
        if len(head) == _head_length(head):
            self._odd_head = None
            self._rest = _content_length(head)

    def _read_frame(self, unparsed: bytearray) -> str | bytes | None:
        """Return the message of a plain frame; of any other, make ready to pass it on.

        Neither means that it has not come far enough.
        """
        first, there = unparsed[0], len(unparsed)
        if first in _FINAL_DATA and not self._fragmented:
            start = _head_length(unparsed)
            if there < max(2, start - _MASK_BYTES):
                return None
            if self._is_plain(unparsed):
                end = start + _content_length(unparsed)
                if there >= end:
                    message = _message(first, unparsed, start, end)
                    if message is not None:
                        del unparsed[:end]
                        return message
                elif there < start or first == _FINAL_BINARY:
                    return None
        self._odd_head = bytearray()
        if first & _OPCODE < _FIRST_CONTROL:
            self._fragmented = not first & _FINAL
        return None

    def _is_plain(self, unparsed: bytearray) -> bool:
        """Judge the first bytes of a final data frame, up to its mask."""
        second, length = unparsed[1], _content_length(unparsed)
        shortest = {126: 126, 127: 0x10000}.get(second & 0x7F, 0)
        return second & _MASKED != 0 and shortest <= length <= self._largest


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


def _message(first: int, unparsed: bytearray, start: int, end: int) -> str | bytes | None:
    """Return what is in a whole frame; None for a text that is not UTF-8."""
    content = _unmask(unparsed[start:end], unparsed[start - _MASK_BYTES : start])
    if first == _FINAL_BINARY:
        return content
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _unmask(content: bytearray, mask: bytearray) -> bytes:
    """Take the mask off (RFC 6455, 5.3)."""
    length = len(content)
    if length > _SHORT:
        return bytes(XorMaskerSimple(mask).process(content))
    # As one number: for little that is one operation; for much, making the number takes longer.
    key = (mask * (length // _MASK_BYTES + 1))[:length]
    return (int.from_bytes(content, "little") ^ int.from_bytes(key, "little")).to_bytes(length, "little")


if TYPE_CHECKING:
    _: type[Codec] = PlainCodec
