"""A WebSocket client over any carrier: the handshake is an HTTP exchange, and its body is the frames.

Over HTTP/1.1 the exchange is an upgrade (RFC 6455), over HTTP/2 an extended CONNECT (RFC 8441);
from then on both are the same. Nothing is read, and no ping answered, before the test asks for
something.
"""

import asyncio
import base64
import contextlib
import secrets
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wsproto.connection import CLIENT, Connection, ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate
from wsproto.utilities import generate_accept_token

from .exchange import Client, ClientExchange, Fields, Head, Response
from .http1_client import Http1Client
from .http2_client import Http2Client, Http2Exchange

DEFLATE = "permessage-deflate"
ABNORMAL_CLOSURE = 1006
"""What RFC 6455 (7.1.5) calls the code of a connection that ended without a close frame."""


@dataclass(frozen=True)
class Close:
    """A close frame; code 1005 when it was empty, 1006 when the connection ended without one."""

    code: int
    reason: str = ""


@dataclass
class Offer:
    """What a client offers in its handshake.

    Attributes:
        subprotocols: In order of preference.
        fields: Additional request fields.
        deflate: Whether to offer permessage-deflate (RFC 7692).
    """

    subprotocols: Sequence[str] = ()
    fields: Sequence[tuple[bytes, bytes]] = ()
    deflate: bool = False

    def request_fields(self, extension: PerMessageDeflate | None) -> Fields:
        """Return the fields that say it, but for those that differ between carriers."""
        fields = [(b"sec-websocket-version", b"13")]
        if self.subprotocols:
            fields.append((b"sec-websocket-protocol", ", ".join(self.subprotocols).encode()))
        if extension is not None:
            fields.append((b"sec-websocket-extensions", f"{DEFLATE}; {extension.offer()}".encode()))
        return fields + list(self.fields)


async def open_websocket(client: Client, target: str = "/", offer: Offer | None = None) -> "WebSocketClient":
    """Shake hands on a connection; over HTTP/2 it may carry other exchanges, too.

    Args:
        client: The connection.
        target: Path and query.
        offer: What the client offers.
    """
    offer = offer or Offer()
    extension = PerMessageDeflate() if offer.deflate else None
    fields = offer.request_fields(extension)
    exchange: ClientExchange
    if isinstance(client, Http2Client):
        exchange = await _extended_connect(client, target, fields)
        head = await exchange.head()
        accepted = head.status == 200
    else:
        assert isinstance(client, Http1Client)
        key = base64.b64encode(secrets.token_bytes(16))
        exchange = await _upgrade(client, target, [(b"sec-websocket-key", key), *fields])
        head = await exchange.head()
        accepted = head.status == 101
        if accepted:
            assert head.field("sec-websocket-accept") == generate_accept_token(key)
    agreed = head.field("sec-websocket-extensions") if accepted else None
    if agreed is not None:
        assert extension is not None, f"the server agrees to what was not offered: {agreed!r}"
        extension.finalize(agreed.decode())
    return WebSocketClient(exchange, head, accepted, extension if agreed else None)


async def _upgrade(client: Http1Client, target: str, fields: Fields) -> ClientExchange:
    return await client.request(
        "GET", target, [(b"upgrade", b"websocket"), (b"connection", b"Upgrade"), *fields]
    )


async def _extended_connect(client: Http2Client, target: str, fields: Fields) -> ClientExchange:
    settings = await client.settings()
    assert settings.enable_connect_protocol, "the server does not announce extended CONNECT (RFC 8441, 3)"
    pseudo_fields = [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"https" if client.wire.tls else b"http"),
        (b":authority", client.authority),
        (b":path", target.encode()),
    ]
    return await client.open(pseudo_fields + fields)


class WebSocketClient:
    """A WebSocket, or the refusal of one.

    Attributes:
        exchange: The HTTP exchange below.
        head: The response head of the handshake.
        accepted: Whether the server said yes; if not, `denial()` has its answer.
        deflate: Whether messages are compressed.
        answers_pings: Whether `receive` and the like answer pings on the way; True until changed.
        answers_close: Whether they answer the server's close frame; True until changed.
        pings: Payloads of the server's pings so far.
        pongs: Payloads of the server's pongs so far.
        closed: What the server closed it with, or None as far as has been read.
    """

    def __init__(
        self, exchange: ClientExchange, head: Head, accepted: bool, extension: PerMessageDeflate | None
    ) -> None:
        self.exchange = exchange
        self.head = head
        self.accepted = accepted
        self.deflate = extension is not None
        self.answers_pings = True
        self.answers_close = True
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.closed: Close | None = None
        self._codec = Connection(CLIENT, [extension] if extension is not None else [])
        self._messages: deque[str | bytes] = deque()
        self._text = ""
        self._binary = bytearray()
        self._reading = asyncio.Lock()

    @property
    def subprotocol(self) -> str | None:
        """What the server chose."""
        chosen = self.head.field("sec-websocket-protocol")
        return chosen.decode() if chosen is not None else None

    async def denial(self) -> Response:
        """Read the whole response that refused the handshake."""
        assert not self.accepted, "the handshake was accepted"
        return await self.exchange.response()

    # --- Messages

    async def send(self, message: str | bytes) -> None:
        """Send a message in one frame."""
        await self._send(TextMessage(message) if isinstance(message, str) else BytesMessage(message))

    async def receive(self) -> str | bytes | Close:
        """Wait for a message, or for the end: once closed, this returns `Close` for ever."""
        await self._until(lambda: bool(self._messages))
        if self._messages:
            return self._messages.popleft()
        assert self.closed is not None
        return self.closed

    # --- Pings

    async def ping(self, payload: bytes = b"") -> None:
        """Send a ping and wait for its pong."""
        seen = len(self.pongs)
        await self._send(Ping(payload=payload))
        await self._until(lambda: payload in self.pongs[seen:])
        assert payload in self.pongs[seen:], f"closed without a pong: {self.closed}"

    async def next_ping(self) -> bytes:
        """Wait for one more ping of the server than there is now."""
        seen = len(self.pings)
        await self._until(lambda: len(self.pings) > seen)
        assert len(self.pings) > seen, f"closed without a ping: {self.closed}"
        return self.pings[seen]

    async def send_pong(self, payload: bytes = b"") -> None:
        """Send a pong, asked for or not."""
        await self._send(Pong(payload=payload))

    # --- The end

    async def close(self, code: int = 1000, reason: str = "") -> Close:
        """Send a close frame and wait for the server's; messages on the way stay to be received."""
        await self._send(CloseConnection(code, reason))
        await self._until(lambda: False)
        assert self.closed is not None
        await self._end_stream()
        return self.closed

    async def wait_closed(self) -> bool:
        """Wait until the server has ended the connection or stream below; tell whether properly."""
        await self._until(lambda: False)
        await self.exchange.wait_closed()
        return self.exchange.complete

    async def hang_up(self) -> None:
        """End the connection or stream properly, but without a close frame."""
        await self.exchange.send_end()

    async def abandon(self) -> None:
        """Vanish: HTTP/1.1 resets the connection, HTTP/2 the stream."""
        await self.exchange.abandon()

    # --- Bytes of one's own

    async def send_frame(
        self, opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True
    ) -> None:
        """Send one frame, legal or not (RFC 6455, 5.2).

        Args:
            opcode: 0 continues, 1 is text, 2 is binary, 8 closes, 9 is a ping, 10 a pong.
            payload: As it is, neither compressed nor checked.
            fin: Whether it is the last of its message.
            rsv: The three reserved bits; 4 is RSV1, which marks a compressed message.
            masked: As a client must.
        """
        await self.exchange.send(frame(opcode, payload, fin=fin, rsv=rsv, masked=masked))

    async def send_raw(self, data: bytes) -> None:
        """Send bytes that need not be whole frames."""
        await self.exchange.send(data)

    async def _send(self, event: Event) -> None:
        await self.exchange.send(self._codec.send(event))

    async def _until(self, condition: Callable[[], bool]) -> None:
        assert self.accepted, f"the handshake was refused with {self.head.status}"
        while not condition() and self.closed is None:
            async with self._reading:
                if condition() or self.closed is not None:
                    return
                data = await self.exchange.read_chunk()
                if not data:
                    self.closed = Close(ABNORMAL_CLOSURE)
                    return
                self._codec.receive_data(data)
                for event in self._codec.events():
                    await self._note(event)

    async def _note(self, event: Event) -> None:
        match event:
            case TextMessage() | BytesMessage():
                self._assemble(event)
            case Ping(payload=payload):
                self.pings.append(bytes(payload))
                if self.answers_pings and self._codec.state is ConnectionState.OPEN:
                    await self._answer(event.response())
            case Pong(payload=payload):
                self.pongs.append(bytes(payload))
            case CloseConnection(code=code, reason=reason):
                state = self._codec.state
                assert state in {ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED}, (
                    f"the server broke RFC 6455: {reason}"
                )
                self.closed = Close(int(code), reason or "")
                if state is ConnectionState.REMOTE_CLOSING and self.answers_close:
                    await self._answer(event.response())
                    await self._end_stream()

    def _assemble(self, event: TextMessage | BytesMessage) -> None:
        if isinstance(event, TextMessage):
            self._text += event.data
            if event.message_finished:
                self._messages.append(self._text)
                self._text = ""
        else:
            self._binary += event.data
            if event.message_finished:
                self._messages.append(bytes(self._binary))
                self._binary.clear()

    async def _end_stream(self) -> None:
        """Over HTTP/2, half-close after the closing handshake; over HTTP/1.1 the server closes first."""
        if isinstance(self.exchange, Http2Exchange) and not self.exchange.stopped:
            await self.exchange.send_end()

    async def _answer(self, event: Event) -> None:
        with contextlib.suppress(ConnectionError):  # who has said its last word need not hear ours
            await self._send(event)


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Return the bytes of one frame; see `WebSocketClient.send_frame`."""
    head = bytearray([fin << 7 | rsv << 4 | opcode])
    mask_bit = masked << 7
    if len(payload) < 126:
        head.append(mask_bit | len(payload))
    elif len(payload) < 1 << 16:
        head += struct.pack("!BH", mask_bit | 126, len(payload))
    else:
        head += struct.pack("!BQ", mask_bit | 127, len(payload))
    if not masked:
        return bytes(head) + payload
    mask = secrets.token_bytes(4)
    pad = (mask * (len(payload) // 4 + 1))[: len(payload)]
    masked_payload = int.from_bytes(payload) ^ int.from_bytes(pad)
    return bytes(head) + mask + masked_payload.to_bytes(len(payload))
