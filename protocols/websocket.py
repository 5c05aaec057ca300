"""WebSocket on wsproto: one handshake for both carriers, and a codec of bytes and messages.

The carrier is HTTP/1.1 (RFC 6455) or an HTTP/2 stream (RFC 8441); only the handshake differs.
What wsproto leaves open is closed here: messages are assembled whole within a bound, and the
bound also holds while a compressed message is being inflated, so that a small frame cannot
become a large one in memory (RFC 7692, 8). The length of a frame is judged when its head is read.
"""

import binascii
from collections.abc import Iterator
from io import StringIO
from itertools import chain
from typing import Any, Final

import wsproto.events
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits
from wsproto.utilities import LocalProtocolError, generate_accept_token

from ..core.asgi import Fields
from ..core.codec import Close, Codec, Crumb, Event, Pause, Ping, Pong, TooBig, Violation
from ..core.config import Config
from ..core.errors import StreamFault, UnexpectedMessage
from ..core.exchange import Head
from .websocket_deflate import Deflate, agree
from .websocket_plain import PlainCodec

# wsproto inflates and unmasks what it is given in one go; small bites keep what one bite becomes small.
_BITE: Final = 64 * 1024
_PAUSE_BYTES: Final = 128 * 1024  # inflated or unmasked in a ms or two; then it is the turn of others
# The largest head of a frame, in bytes (RFC 6455, 5.2): a fragment with less in it is more head than content.
_CRUMB: Final = 14
_INVALID_DATA: Final = "not UTF-8, or not compressed as agreed"  # where wsproto quotes Python
_NO_BITS: Final = RsvBits(False, False, False)


class WebSocketHandshake:
    """A valid opening handshake, waiting for the application's decision."""

    def __init__(self, fields: Fields, http_version: str, config: Config) -> None:
        self.subprotocols = _listed(fields, b"sec-websocket-protocol")
        self._offers = b", ".join(value for name, value in fields if name == b"sec-websocket-extensions")
        self._key = _value(fields, b"sec-websocket-key") if http_version == "1.1" else None
        self._config = config

    def accept(self, subprotocol: str | None, fields: Fields) -> tuple[Head, Codec]:
        """Return the head that opens the connection, 101 or 200, and its codec."""
        if subprotocol is not None and subprotocol not in self.subprotocols:
            raise UnexpectedMessage(
                f"subprotocol {subprotocol!r} is not among those offered: {self.subprotocols}"
            )
        answer: Fields = []
        if self._key is not None:
            answer += [
                (b"upgrade", b"websocket"),
                (b"connection", b"upgrade"),
                (b"sec-websocket-accept", generate_accept_token(self._key)),
            ]
        if subprotocol is not None:
            answer.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        config = self._config
        agreement = agree(self._offers, config.ws_max_message) if config.ws_deflate else None
        deflate = None
        if agreement is not None:
            response, deflate = agreement
            answer.append((b"sec-websocket-extensions", response))
        head = Head(200 if self._key is None else 101, answer + fields)
        return head, open_codec(config, deflate)


def open_handshake(fields: Fields, http_version: str, config: Config) -> WebSocketHandshake:
    """Read a WebSocket opening handshake.

    Args:
        fields: The fields of a GET with `upgrade: websocket`, or of an extended CONNECT.
        http_version: "1.1" or "2".
        config: For the limits and permessage-deflate.

    Raises:
        StreamFault: With status 400 for a bad key, 426 for another version (RFC 6455, 4.2.1 and 4.4).
    """
    if _value(fields, b"sec-websocket-version") != b"13":
        raise StreamFault(426, "the only WebSocket version here is 13")
    if http_version == "1.1" and not _is_key(_value(fields, b"sec-websocket-key")):
        raise StreamFault(400, "sec-websocket-key is not 16 bytes in base64")
    return WebSocketHandshake(fields, http_version, config)


def open_codec(config: Config, deflate: Deflate | None = None) -> Codec:
    """Make the codec of a connection, as the settings say.

    Args:
        config: For the engine and the limits.
        deflate: How messages are compressed, if that was agreed.
    """
    if config.engine == "reference":
        return make_reference(config, deflate)
    return PlainCodec(make_reference, config, deflate)


def make_reference(config: Config, deflate: Deflate | None) -> Codec:
    """Make the codec that leaves everything to wsproto."""
    return WebSocketCodec(config.ws_max_message, config.ws_max_frame, deflate)


class WebSocketCodec:
    """Bytes to messages and back, for one WebSocket connection (RFC 6455, 5).

    Args:
        max_message: The largest message, in bytes.
        max_frame: The largest frame, likewise.
        deflate: How messages are compressed, if that was agreed.
    """

    def __init__(self, max_message: int, max_frame: int, deflate: Deflate | None = None) -> None:
        self._heads = heads = _FrameHeads(max_frame)
        self._connection = Connection(ConnectionType.SERVER, [heads] if deflate is None else [heads, deflate])
        self._deflate = deflate
        self._max_message = max_message
        self._max_frame = max_frame
        self._unparsed = bytearray()
        self._taken = 0  # of it, since the last pause
        self._events: Iterator[wsproto.events.Event] = iter(())
        self._violated = False
        # The message whose end is still to come.
        self._text: StringIO | None = None
        self._binary: bytearray | None = None
        self._message_bytes = 0
        self._too_big = False

    def feed(self, data: bytes | bytearray) -> None:
        """Take bytes of the peer; nothing is parsed before `next_event()`."""
        self._unparsed += data

    def next_event(self) -> Event | None:
        """Return the next event, or None when more bytes are needed."""
        while not self._violated:
            for event in self._events:
                if self._heads.too_big and not self._too_big:  # by its head, whatever the rest may be
                    self._events = chain((event,), self._events)
                    return self._refuse_frame()
                found = self._translate(event)
                if found is not None:
                    return found
            if self._heads.too_big and not self._too_big:  # before any of the frame has come
                return self._refuse_frame()
            if not self._unparsed or self._connection.state not in (
                ConnectionState.OPEN,
                ConnectionState.LOCAL_CLOSING,
            ):
                return None
            deflate = self._deflate
            if self._taken > _PAUSE_BYTES or (deflate is not None and deflate.inflated > _PAUSE_BYTES):
                self._taken = 0
                if deflate is not None:
                    deflate.inflated = 0
                return Pause()
            size = _BITE if deflate is None or deflate.overflown else deflate.bite
            bite = bytes(self._unparsed[:size])
            del self._unparsed[:size]
            self._taken += len(bite)
            self._connection.receive_data(bite)
            self._events = self._connection.events()
        return None

    def message(self, payload: str | bytes) -> bytes:
        """Return the frame of a text or binary message."""
        if isinstance(payload, str):
            return self._connection.send(wsproto.events.TextMessage(data=payload))
        return self._connection.send(wsproto.events.BytesMessage(data=payload))

    def ping(self) -> bytes:
        """Return a ping frame."""
        return self._connection.send(wsproto.events.Ping())

    def pong(self, payload: bytes) -> bytes:
        """Return the pong frame that answers a ping."""
        return self._connection.send(wsproto.events.Pong(payload=payload))

    def close(self, code: int, reason: str) -> bytes:
        """Return a close frame; code 1005 makes one without a code. The reason is cut to 123 bytes."""
        if code == CloseReason.NO_STATUS_RCVD:
            event = wsproto.events.CloseConnection(code=CloseReason.NO_STATUS_RCVD)
        else:
            event = wsproto.events.CloseConnection(code=code, reason=reason)
        try:
            return self._connection.send(event)
        except LocalProtocolError:  # both sides have closed already
            return b""

    def _translate(self, event: wsproto.events.Event) -> Event | None:
        if isinstance(event, wsproto.events.Message):
            return self._assemble(event)
        if isinstance(event, wsproto.events.Ping):
            return Ping(bytes(event.payload))
        if isinstance(event, wsproto.events.Pong):
            return Pong()
        assert isinstance(event, wsproto.events.CloseConnection)
        # wsproto reports a violation as a close event too, but without a change of its state.
        if self._connection.state in (ConnectionState.OPEN, ConnectionState.LOCAL_CLOSING):
            self._violated = True
            self._unparsed.clear()
            is_data = event.code is CloseReason.INVALID_FRAME_PAYLOAD_DATA
            return Violation(int(event.code), _INVALID_DATA if is_data else event.reason or "")
        return Close(int(event.code), event.reason or "")

    def _assemble(self, event: wsproto.events.Message[Any]) -> str | bytes | Crumb | TooBig | None:
        found = None if self._too_big else self._add(event)
        if found is None and event.frame_finished and self._heads.crumb:
            return Crumb()
        return found

    def _add(self, event: wsproto.events.Message[Any]) -> str | bytes | TooBig | None:
        part: str | bytes = event.data
        self._message_bytes += len(part) if isinstance(part, bytes) or part.isascii() else len(part.encode())
        if self._message_bytes > self._max_message:
            return self._refuse("ws_max_message", f"a message has at most {self._max_message} bytes")
        if event.message_finished:
            self._message_bytes = 0
        if isinstance(part, str):
            return self._add_text(part, finished=event.message_finished)
        return self._add_bytes(part, finished=event.message_finished)

    def _refuse_frame(self) -> TooBig:
        return self._refuse("ws_max_frame", f"a frame has at most {self._max_frame} bytes")

    def _refuse(self, setting: str, reason: str) -> TooBig:
        """Drop the message, and all that come after it."""
        self._too_big = True
        self._text = self._binary = None
        return TooBig(setting, reason)

    def _add_text(self, part: str, *, finished: bool) -> str | None:
        text = self._text
        if text is None:
            if finished:
                return part
            text = self._text = StringIO()
        # Not a list of parts: a client can make a message of any number of empty or tiny ones.
        text.write(part)
        if not finished:
            return None
        self._text = None
        return text.getvalue()

    def _add_bytes(self, part: bytes, *, finished: bool) -> bytes | None:
        binary = self._binary
        if binary is None:
            if finished:
                return bytes(part)
            binary = self._binary = bytearray()
        binary += part
        if not finished:
            return None
        self._binary = None
        return bytes(binary)


class _FrameHeads(Extension):
    """Sees the head of every frame before its content; for wsproto, an extension that changes nothing.

    Attributes:
        too_big: Whether there was a frame larger than the bound.
        crumb: Whether there is next to nothing in the newest frame.
    """

    name = "frame-heads"  # never offered

    def __init__(self, max_frame: int) -> None:
        self.too_big = False
        self.crumb = False
        self._max_frame = max_frame

    def enabled(self) -> bool:
        """Say that it wants to be asked."""
        return True

    def offer(self) -> bool:
        """Offer nothing: servers answer offers."""
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """Look at a head; perhaps twice, if it comes in two pieces."""
        self.crumb = payload_length < _CRUMB
        if payload_length > self._max_frame:
            self.too_big = True
        return _NO_BITS


def _value(fields: Fields, name: bytes) -> bytes | None:
    """Return the value of a field that may stand once; None if it is absent or repeated."""
    values = [value for field_name, value in fields if field_name == name]
    return values[0] if len(values) == 1 else None


def _listed(fields: Fields, name: bytes) -> list[str]:
    """Return the members of a comma-separated list field (RFC 9110, 5.6.1)."""
    members = [
        member.strip().decode("latin-1")
        for field_name, value in fields
        if field_name == name
        for member in value.split(b",")
    ]
    return [member for member in members if member]


def _is_key(value: bytes | None) -> bool:
    if value is None or len(value) != 24:
        return False
    try:
        return len(binascii.a2b_base64(value, strict_mode=True)) == 16
    except binascii.Error:
        return False
