"""A client for HTTP/2 over h2, with many exchanges at once and flow control in the hands of the test.

Credit is given, byte for byte, when the test takes bytes of a body, never before. h2 checks all
that the server sends: what RFC 9113 forbids raises h2.exceptions.ProtocolError in the test.
"""

import contextlib
from collections.abc import Callable, Sequence
from typing import TypeVar

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
from h2.settings import SettingCodes
from hyperframe.frame import Frame, GoAwayFrame

from .exchange import Client, ClientExchange, ExchangeCut, Fields, Head
from .wire import Wire

EventType = TypeVar("EventType", bound=h2.events.Event)

DEFAULT_WINDOW = 65535
"""Of a stream and of the connection until a side says otherwise (RFC 9113, 6.9.2), in bytes."""


class _Connection(h2.connection.H2Connection):
    """h2, but for one point: a GOAWAY lets the streams under way go on (RFC 9113, 6.8)."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[h2.events.Event]]:
        state = self.state_machine.state
        unsent = bytes(self._data_to_send)
        answer = super()._receive_goaway_frame(frame)
        self.state_machine.state = state
        self._data_to_send += unsent
        return answer


class Http2Client(Client):
    """One HTTP/2 connection.

    Attributes:
        connection: The state of HTTP/2, for what has no method here; call `flush` after using it.
        events: All that has happened, in order.
        exchanges: By stream, those of pushed streams included.
    """

    def __init__(self, wire: Wire, authority: bytes) -> None:
        super().__init__(wire, authority)
        self.connection = _Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.events: list[h2.events.Event] = []
        self.exchanges: dict[int, Http2Exchange] = {}
        self._unclaimed: list[h2.events.Event] = []

    def __str__(self) -> str:
        return f"HTTP/2, {len(self.exchanges)} exchanges so far, {self.wire.ending or 'open'}"

    async def start(self, settings: dict[SettingCodes, int] | None = None) -> None:
        """Send the preface and our settings; the server's are read with whatever is read next."""
        self.connection.local_settings = h2.settings.Settings(
            client=True,
            initial_values={SettingCodes.MAX_HEADER_LIST_SIZE: 1024 * 1024, **(settings or {})},
        )
        self.connection.decoder.max_header_list_size = (
            self.connection.local_settings.max_header_list_size or 0
        )
        self.connection.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        """Write what `connection` wants to send."""
        await self.wire.write(self.connection.data_to_send())

    async def request(
        self,
        method: str,
        target: str,
        fields: Sequence[tuple[bytes, bytes]] = (),
        content: bytes | None = None,
        *,
        end: bool = True,
    ) -> "Http2Exchange":
        """Send a request; see `Client.request`."""
        authority = next((value for name, value in fields if name == b"host"), self.authority)
        framed = [(name, value) for name, value in fields if name != b"host"]
        if content is not None and end and all(name != b"content-length" for name, _ in framed):
            framed.append((b"content-length", str(len(content)).encode()))
        pseudo_fields = [
            (b":method", method.encode()),
            (b":scheme", b"https" if self.wire.tls else b"http"),
            (b":authority", authority),
            (b":path", target.encode()),
        ]
        exchange = await self.open(pseudo_fields + framed, end=end and not content)
        if content:
            with contextlib.suppress(ExchangeCut):  # reset before it was whole: the test shall read how
                await exchange.send(content, end=end)
        return exchange

    async def open(self, fields: Fields, *, end: bool = False) -> "Http2Exchange":
        """Send a request head as it is, pseudo-fields included, on the next stream."""
        stream_id = self.connection.get_next_available_stream_id()
        exchange = Http2Exchange(self, stream_id)
        self.exchanges[stream_id] = exchange
        self.connection.send_headers(stream_id, fields, end_stream=end)
        await self.flush()
        return exchange

    async def event(
        self, kind: type[EventType], matching: Callable[[EventType], bool] = lambda _: True
    ) -> EventType:
        """Wait for an event of this kind; each is returned once.

        Raises:
            ExchangeCut: The connection ended without one.
        """

        def matches(event: h2.events.Event) -> bool:
            return isinstance(event, kind) and matching(event)

        await self.until(lambda: any(map(matches, self._unclaimed)), f"{kind.__name__}")
        for index, event in enumerate(self._unclaimed):
            if isinstance(event, kind) and matching(event):
                del self._unclaimed[index]
                return event
        raise ExchangeCut(f"the connection ended without {kind.__name__}")

    async def ping(self, data: bytes = b"alphorn?") -> None:
        """Send a PING and wait for its answer: all that was sent before it has then been read by the server."""
        self.connection.ping(data)
        await self.flush()
        await self.event(h2.events.PingAckReceived, lambda event: event.ping_data == data)

    async def goaway(self, code: int = h2.errors.ErrorCodes.NO_ERROR) -> None:
        """Announce that we will close; streams under way go on."""
        state = self.connection.state_machine.state
        self.connection.close_connection(error_code=code)
        self.connection.state_machine.state = state
        await self.flush()

    async def settings(self) -> h2.settings.Settings:
        """Wait for the server's settings."""
        await self.until(
            lambda: any(isinstance(event, h2.events.RemoteSettingsChanged) for event in self.events),
            "the server's SETTINGS",
        )
        return self.connection.remote_settings

    async def _digest(self, data: bytes) -> None:
        if not data:
            return
        for event in self.connection.receive_data(data):
            self.events.append(event)
            self._unclaimed.append(event)
            self._note(event)
        with contextlib.suppress(ConnectionError):  # what the server said before it went is worth reading
            await self.flush()  # h2 answers SETTINGS and PING by itself

    def _note(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.PushedStreamReceived(
                pushed_stream_id=int(pushed_id), parent_stream_id=int(parent_id), headers=list(fields)
            ):
                pushed = Http2Exchange(self, pushed_id)
                pushed.pushed_request = _as_bytes(fields)
                self.exchanges[pushed_id] = pushed
                self.exchanges[parent_id].pushed.append(pushed)
            case (
                h2.events.InformationalResponseReceived(stream_id=stream_id)
                | h2.events.ResponseReceived(stream_id=stream_id)
                | h2.events.DataReceived(stream_id=stream_id)
                | h2.events.TrailersReceived(stream_id=stream_id)
                | h2.events.StreamEnded(stream_id=stream_id)
                | h2.events.StreamReset(stream_id=stream_id)
            ):
                self.exchanges[stream_id].note(event)


class Http2Exchange(ClientExchange):
    """One stream.

    Attributes:
        stream_id: Its number.
        pushed: The exchanges the server has promised on this stream.
        pushed_request: Of a pushed exchange: the request the server made up, pseudo-fields included.
    """

    _client: Http2Client

    def __init__(self, client: Http2Client, stream_id: int) -> None:
        super().__init__(client)
        self.stream_id = stream_id
        self.pushed: list[Http2Exchange] = []
        self.pushed_request: Fields = []

    @property
    def stopped(self) -> bool:
        """Whether the request can go no further; a complete response alone does not stop it."""
        return self.abandoned or self.reset_code is not None or self._client.ended

    @property
    def send_window(self) -> int:
        """How many bytes the server would take now, as far as has been read: of stream and connection."""
        return self._client.connection.local_flow_control_window(self.stream_id)

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """Send a piece of the body; see `ClientExchange.send`. Waits for window where there is none."""
        connection = self._client.connection
        view = memoryview(data)
        while view:
            await self._client.until(lambda: self.stopped or self.send_window > 0, "flow-control window")
            if self.stopped:
                raise ExchangeCut(f"cannot send: {self._ending}")
            size = min(len(view), self.send_window, connection.max_outbound_frame_size)
            connection.send_data(self.stream_id, bytes(view[:size]), end_stream=end and size == len(view))
            view = view[size:]
            await self._client.flush()
        if end and not data:
            await self.send_end()

    async def send_end(self, trailers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """End the request with END_STREAM, on trailer fields if given."""
        if trailers:
            self._client.connection.send_headers(self.stream_id, list(trailers), end_stream=True)
        else:
            self._client.connection.end_stream(self.stream_id)
        await self._client.flush()

    async def abandon(self, code: int = h2.errors.ErrorCodes.CANCEL) -> None:
        """Leave: reset the stream."""
        self.abandoned = True
        self._client.connection.reset_stream(self.stream_id, code)
        await self._client.flush()

    async def wait_reset(self) -> int:
        """Wait for a RST_STREAM and return its code.

        Raises:
            ExchangeCut: The connection ended without one.
        """
        await self._client.until(lambda: self.reset_code is not None, f"RST_STREAM on {self.stream_id}")
        if self.reset_code is None:
            raise ExchangeCut(f"no RST_STREAM: {self._ending}")
        return self.reset_code

    def note(self, event: h2.events.Event) -> None:
        """Take an event of this stream."""
        match event:
            case h2.events.InformationalResponseReceived(headers=fields):
                self.informational.append(_head(_as_bytes(fields)))
            case h2.events.ResponseReceived(headers=fields):
                self._head = _head(_as_bytes(fields))
            case h2.events.DataReceived(data=data, flow_controlled_length=counted):
                if data:
                    self._chunks.append(data)
                self._credit(counted - len(data))  # padding is nobody's to take
            case h2.events.TrailersReceived(headers=fields):
                self.trailers = _as_bytes(fields)
            case h2.events.StreamEnded():
                self.complete = True
            case h2.events.StreamReset(error_code=code, remote_reset=True):
                self.reset_code = int(code)

    async def _taken(self, count: int) -> None:
        self._credit(count)
        with contextlib.suppress(ConnectionError):  # the server may have gone; what it sent is here
            await self._client.flush()

    def _credit(self, count: int) -> None:
        if count == 0:
            return
        self._client.connection.increment_flow_control_window(count)
        if not self.ended:
            self._client.connection.increment_flow_control_window(count, self.stream_id)


def _head(fields: Fields) -> Head:
    (name, status), *others = fields
    assert name == b":status", f"a response begins with :status, not with {name!r}"
    return Head(int(status), others, "2")


def _as_bytes(fields: Sequence[tuple[bytes | str, bytes | str]]) -> Fields:
    return [
        (
            name if isinstance(name, bytes) else name.encode(),
            value if isinstance(value, bytes) else value.encode(),
        )
        for name, value in fields
    ]
