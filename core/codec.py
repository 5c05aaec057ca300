"""The seam between the WebSocket core and a WebSocket wire: a handshake, then a codec.

`protocols.websocket` implements both; the core sees messages and never a frame.
"""

from typing import NamedTuple, Protocol, TypeAlias

from .asgi import Fields
from .exchange import Head


class Ping(NamedTuple):
    """A ping of the peer; it wants a pong with the same payload (RFC 6455, 5.5.2)."""

    payload: bytes


class Pong(NamedTuple):
    """A pong of the peer (RFC 6455, 5.5.3)."""


class Close(NamedTuple):
    """The peer's close frame (RFC 6455, 5.5.1); code 1005 when it had none."""

    code: int
    reason: str


class Violation(NamedTuple):
    """The peer broke the protocol: fail the connection with this code (RFC 6455, 7.1.7).

    It is the last event: where the next frame begins can no longer be known.
    """

    code: int
    reason: str


class TooBig(NamedTuple):
    """A message or a frame is larger than the bound. It is dropped, like all messages after it.

    Control frames are still understood, so the connection can be closed with a handshake.
    """

    setting: str
    """Whose bound it was: `ws_max_message` or `ws_max_frame`."""
    reason: str


class Crumb(NamedTuple):
    """A frame with next to nothing in it that ends no message, or one that is dropped."""


class Pause(NamedTuple):
    """So much was inflated, of a message that goes on, that it is the turn of others."""


Event: TypeAlias = str | bytes | Ping | Pong | Crumb | Pause | Close | Violation | TooBig
"""A whole text message, a whole binary message, or what is none."""


class Codec(Protocol):
    """Bytes to messages and back, for one WebSocket connection. No I/O, no clock."""

    def feed(self, data: bytes | bytearray) -> None:
        """Take bytes of the peer; nothing is parsed before `next_event()`."""

    def next_event(self) -> Event | None:
        """Return the next event, or None when more bytes are needed."""

    def message(self, payload: str | bytes) -> bytes:
        """Return the frame of a text or binary message."""

    def ping(self) -> bytes:
        """Return a ping frame."""

    def pong(self, payload: bytes) -> bytes:
        """Return the pong frame that answers a ping."""

    def close(self, code: int, reason: str) -> bytes:
        """Return a close frame; code 1005 makes one without a code. The reason is cut to 123 bytes."""


class Handshake(Protocol):
    """A valid opening handshake that waits for the application's decision."""

    subprotocols: list[str]
    """What the client offers, in its order of preference."""

    def accept(self, subprotocol: str | None, fields: Fields) -> tuple[Head, Codec]:
        """Return the head that opens the connection, and its codec.

        Args:
            subprotocol: The one that the application chose.
            fields: Further fields for the head, already checked.

        Raises:
            UnexpectedMessage: The subprotocol was not offered.
        """
