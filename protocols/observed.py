"""Connections and WebSockets that count what passes over them: those of a server with `--admin-bind`.

Subclasses and wrappers, so that the ones that nobody observes need not even ask whether they are.
"""

import asyncio
from typing import TYPE_CHECKING, Final

from h2.errors import ErrorCodes

from ..core.asgi import Fields
from ..core.codec import Codec, Event, Handshake
from ..core.config import Config
from ..core.errors import StreamFault
from ..core.exchange import Head
from ..core.metrics import Metrics, ObservedConnection
from ..core.scope import ConnectionFacts
from ..core.worker import OpenHandshake, Worker
from . import http2_events as events
from .http1 import Http1Connection
from .http2 import Http2Connection
from .http2_stream import Http2Stream
from .websocket import open_handshake


class ObservedHttp1(Http1Connection):
    """An HTTP/1 connection that counts."""

    __slots__ = ("_metrics", "_passed", "opened_at", "received", "secure")

    protocol: Final = "http/1.1"

    def __init__(self, worker: Worker, facts: ConnectionFacts) -> None:
        super().__init__(worker, facts)
        assert worker.metrics is not None
        self._metrics = worker.metrics
        self._passed = 0  # bytes of files, which the kernel sent
        self.secure = facts.secure
        self.opened_at = worker.clock.now()
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the connections that are counted."""
        super().connection_made(transport)
        self._metrics.joined(self)

    def data_received(self, data: bytes) -> None:
        """Count what the client sent."""
        self.received += len(data)
        super().data_received(data)

    async def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Count what the kernel sends."""
        sent = await super().send_file(descriptor, offset, count)
        self._passed += sent
        return sent

    @property
    def sent(self) -> int:
        """How many bytes left, or wait for the client."""
        return self._output.handed_over + self._passed

    @property
    def requests(self) -> int:
        """How many requests there were."""
        return self._requests


class ObservedHttp2(Http2Connection):
    """An HTTP/2 connection that counts."""

    protocol: Final = "http/2"

    def __init__(self, worker: Worker, facts: ConnectionFacts) -> None:
        super().__init__(worker, facts)
        assert worker.metrics is not None
        self._metrics = worker.metrics
        self.secure = facts.secure
        self.opened_at = worker.clock.now()
        self.received = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Join the connections that are counted."""
        super().connection_made(transport)
        self._metrics.joined(self)

    def data_received(self, data: bytes) -> None:
        """Count what the client sent."""
        self.received += len(data)
        super().data_received(data)

    def reset(self, stream: Http2Stream, code: ErrorCodes) -> None:
        """Count a reset of ours."""
        self._metrics.resets["server"] += 1
        super().reset(stream, code)

    def _refuse(self, stream_id: int, fault: StreamFault) -> None:
        self._metrics.resets["server"] += 1
        super()._refuse(stream_id, fault)

    def _stream_reset(self, event: events.StreamReset) -> None:
        self._metrics.resets["client"] += 1
        super()._stream_reset(event)

    @property
    def sent(self) -> int:
        """How many bytes left, or wait for the client."""
        return self._sender.handed_over

    @property
    def requests(self) -> int:
        """How many requests there were."""
        return self._opened


def counting_handshake(metrics: Metrics) -> OpenHandshake:
    """Return what opens WebSockets whose messages are counted."""

    def opened(fields: Fields, http_version: str, config: Config) -> Handshake:
        return _CountingHandshake(open_handshake(fields, http_version, config), metrics)

    return opened


class _CountingHandshake:
    """A handshake that is counted when it is accepted."""

    def __init__(self, handshake: Handshake, metrics: Metrics) -> None:
        self.subprotocols = handshake.subprotocols
        self._handshake = handshake
        self._metrics = metrics

    def accept(self, subprotocol: str | None, fields: Fields) -> tuple[Head, Codec]:
        """Accept, and count."""
        head, codec = self._handshake.accept(subprotocol, fields)
        self._metrics.websockets += 1
        return head, _CountingCodec(codec, self._metrics)


class _CountingCodec:
    """A codec that counts messages."""

    def __init__(self, codec: Codec, metrics: Metrics) -> None:
        self._codec = codec
        self._messages = metrics.messages
        self.feed = codec.feed
        self.ping = codec.ping
        self.pong = codec.pong
        self.close = codec.close

    def next_event(self) -> Event | None:
        """Count an event that is a message."""
        event = self._codec.next_event()
        if isinstance(event, str | bytes):
            self._messages["received"] += 1
        return event

    def message(self, payload: str | bytes) -> bytes:
        """Count a message to the client."""
        frame = self._codec.message(payload)
        self._messages["sent"] += 1
        return frame


if TYPE_CHECKING:
    _http1: type[ObservedConnection] = ObservedHttp1
    _http2: type[ObservedConnection] = ObservedHttp2
    _handshake: type[Handshake] = _CountingHandshake
    _codec: type[Codec] = _CountingCodec
