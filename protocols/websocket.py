"""WebSocket on wsproto: one handshake for both carriers, and a codec of bytes and messages.

The carrier is HTTP/1.1 (RFC 6455) or an HTTP/2 stream (RFC 8441); only the handshake differs.
What wsproto leaves open is closed here: messages are assembled whole within a bound, and the
bound also holds while a compressed message is being inflated, so that a small frame cannot
become a large one in memory (RFC 7692, 8).
"""

import binascii
import zlib
from collections.abc import Iterator
from typing import Any, Final

import wsproto.events
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol
from wsproto.handshake import server_extensions_handshake
from wsproto.utilities import LocalProtocolError, generate_accept_token

from ..core.asgi import Fields
from ..core.codec import Close, Codec, Event, Ping, Pong, Violation
from ..core.config import Config
from ..core.errors import StreamFault, UnexpectedMessage
from ..core.exchange import Head

# wsproto inflates and unmasks what it is given in one go; small bites keep what one bite becomes small.
_BITE: Final = 64 * 1024


class WebSocketHandshake:
    """A valid opening handshake, waiting for the application's decision."""

    def __init__(self, fields: Fields, http_version: str, config: Config) -> None:
        self.subprotocols = _listed(fields, b"sec-websocket-protocol")
        self._offered_extensions = _listed(fields, b"sec-websocket-extensions")
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
            answer.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
        extensions = self._agreed_extensions(answer)
        head = Head(200 if self._key is None else 101, answer + fields)
        return head, WebSocketCodec(extensions, self._config.ws_max_message)

    def _agreed_extensions(self, answer: Fields) -> list[Extension]:
        if not self._config.ws_deflate:
            return []
        deflate = BoundedDeflate(self._config.ws_max_message)
        try:
            agreed = server_extensions_handshake(self._offered_extensions, [deflate])
        except ValueError:  # a parameter that is not a number: decline the offer (RFC 7692, 7)
            return []
        if not agreed:
            return []
        answer.append((b"sec-websocket-extensions", agreed))
        return [deflate]


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


class WebSocketCodec:
    """Bytes to messages and back, for one WebSocket connection (RFC 6455, 5)."""

    def __init__(self, extensions: list[Extension], max_message: int) -> None:
        self._connection = Connection(ConnectionType.SERVER, extensions)
        self._max_message = max_message
        self._unparsed = bytearray()
        self._events: Iterator[wsproto.events.Event] = iter(())
        self._parts: list[Any] = []  # all str or all bytes, as the message's first frame said
        self._parts_bytes = 0
        self._violated = False

    def feed(self, data: bytes) -> None:
        """Take bytes of the peer; nothing is parsed before `next_event()`."""
        self._unparsed += data

    def next_event(self) -> Event | None:
        """Return the next event, or None when more bytes are needed."""
        while not self._violated:
            for event in self._events:
                found = self._translate(event)
                if found is not None:
                    return found
            if not self._unparsed or self._connection.state not in (
                ConnectionState.OPEN,
                ConnectionState.LOCAL_CLOSING,
            ):
                return None
            bite = bytes(self._unparsed[:_BITE])
            del self._unparsed[:_BITE]
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
        try:
            return self._connection.send(
                wsproto.events.CloseConnection(
                    code=code, reason=None if code == CloseReason.NO_STATUS_RCVD else reason
                )
            )
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
            return self._violation(event.code, event.reason or "")
        return Close(int(event.code), event.reason or "")

    def _assemble(self, event: wsproto.events.Message[Any]) -> Event | None:
        part = event.data
        self._parts_bytes += len(part) if isinstance(part, bytes) or part.isascii() else len(part.encode())
        if self._parts_bytes > self._max_message:
            return self._violation(CloseReason.MESSAGE_TOO_BIG, "message too big")
        if event.message_finished and not self._parts:
            self._parts_bytes = 0
            return part if isinstance(part, str) else bytes(part)
        self._parts.append(part)
        if not event.message_finished:
            return None
        whole: str | bytes = (b"" if isinstance(part, bytes) else "").join(self._parts)
        self._parts = []
        self._parts_bytes = 0
        return whole

    def _violation(self, code: int, reason: str) -> Violation:
        self._violated = True
        self._parts = []
        self._unparsed.clear()
        return Violation(int(code), reason)


class BoundedDeflate(PerMessageDeflate):
    """permessage-deflate that stops inflating at the largest message (RFC 7692)."""

    def __init__(self, max_message: int) -> None:
        super().__init__()
        self._max_message = max_message
        self._inflated = 0

    def frame_inbound_payload_data(
        self, proto: FrameDecoder | FrameProtocol, data: bytes
    ) -> bytes | CloseReason:
        """Inflate a part of a message, but no further than the bound."""
        if not self._inbound_compressed or not self._inbound_is_compressible:
            return data
        assert self._decompressor is not None
        try:
            inflated = self._decompressor.decompress(data, self._max_message - self._inflated + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._inflated += len(inflated)
        if self._inflated > self._max_message:
            return CloseReason.MESSAGE_TOO_BIG
        return inflated

    def frame_inbound_complete(
        self, proto: FrameDecoder | FrameProtocol, fin: bool
    ) -> bytes | CloseReason | None:
        """Finish a message; the next one has the whole bound again."""
        if fin and self._inbound_is_compressible:
            self._inflated = 0
        return super().frame_inbound_complete(proto, fin)


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
