"""A client for HTTP/1.1 over h11, with pipelining, upgrades and requests made of raw bytes.

Each exchange has an h11 connection of its own and hands the bytes behind its response to the
next one: so requests may be pipelined, which h11 as a client does not know.
"""

from collections import deque
from collections.abc import Sequence

import h11

from .exchange import Client, ClientExchange, Fields, Head
from .wire import Ending, Wire

MAX_HEAD_BYTES = 1024 * 1024


class Http1Client(Client):
    """One HTTP/1.1 connection."""

    def __init__(self, wire: Wire, authority: bytes) -> None:
        super().__init__(wire, authority)
        self._unanswered: deque[Http1Exchange] = deque()

    def __str__(self) -> str:
        return f"HTTP/1.1, {len(self._unanswered)} exchanges unanswered, {self.wire.ending or 'open'}"

    async def request(
        self,
        method: str,
        target: str,
        fields: Sequence[tuple[bytes, bytes]] = (),
        content: bytes | None = None,
        *,
        end: bool = True,
    ) -> "Http1Exchange":
        """Send a request; see `Client.request`."""
        exchange = Http1Exchange(self)
        data = exchange.encode(
            h11.Request(method=method, target=target, headers=self._framed(fields, content, end))
        )
        if content:
            data += exchange.encode(h11.Data(data=content))
        if end:
            data += exchange.encode(h11.EndOfMessage())
        await self._start(exchange, data)
        return exchange

    async def request_raw(self, data: bytes, *, method: str = "GET") -> "Http1Exchange":
        """Send the bytes of a request as they are, and expect one response to it.

        Args:
            data: The request, legal or not.
            method: What the framing of the response depends on: HEAD has no body, CONNECT a tunnel.
        """
        exchange = Http1Exchange(self)
        exchange.encode(h11.Request(method=method, target="/", headers=[(b"host", self.authority)]))
        exchange.encode(h11.EndOfMessage())
        await self._start(exchange, data)
        return exchange

    async def half_close(self) -> None:
        """Say that no more requests will come, and keep reading."""
        await self.wire.write_eof()

    async def _start(self, exchange: "Http1Exchange", data: bytes) -> None:
        self._unanswered.append(exchange)
        try:
            await self.wire.write(data)
        except ConnectionError:
            if self.wire.closed:
                raise
            # The answer may be there before the request was whole (413), so the test shall read it.

    def _framed(self, fields: Sequence[tuple[bytes, bytes]], content: bytes | None, end: bool) -> Fields:
        names = {name for name, _ in fields}
        framed = list(fields)
        if b"host" not in names:
            framed.insert(0, (b"host", self.authority))
        if names.isdisjoint((b"content-length", b"transfer-encoding")):
            if not end:
                framed.append((b"transfer-encoding", b"chunked"))
            elif content is not None:
                framed.append((b"content-length", str(len(content)).encode()))
        return framed

    async def _digest(self, data: bytes) -> None:
        if not data and self.wire.ending is not Ending.FIN:
            return  # cut: not even a body that ends with its connection is complete
        while self._unanswered:
            data = self._unanswered[0].feed(data)
            if not self._unanswered[0].complete:
                return
            self._unanswered.popleft()
            if not data:
                return
        assert not data, f"the server sent what nobody asked for: {data[:100]!r}"


class Http1Exchange(ClientExchange):
    """One request and its response over HTTP/1.1; after a 101 or a CONNECT, a tunnel of plain bytes."""

    def __init__(self, client: Http1Client) -> None:
        super().__init__(client)
        self._codec = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._switched = False

    def encode(self, event: h11.Event) -> bytes:
        """Return the bytes of a part of the request."""
        return self._codec.send(event) or b""

    async def send(self, data: bytes, *, end: bool = False) -> None:
        """Send a piece of the body; see `ClientExchange.send`."""
        if self._switched:
            await self._client.wire.write(data)
        else:
            await self._client.wire.write(self.encode(h11.Data(data=data)))
        if end:
            await self.send_end()

    async def send_end(self, trailers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """End the request; a tunnel is half-closed."""
        if self._switched:
            await self._client.wire.write_eof()
        else:
            await self._client.wire.write(self.encode(h11.EndOfMessage(headers=list(trailers))))

    async def abandon(self) -> None:
        """Leave: reset the connection."""
        self.abandoned = True
        self._client.abandon()

    def feed(self, data: bytes) -> bytes:
        """Take bytes of the response (b"" at the end of the connection); return those behind it.

        Raises:
            h11.RemoteProtocolError: The server broke HTTP/1.1.
        """
        if self._switched:
            self._accept_tunnel_bytes(data)
            return b""
        self._codec.receive_data(data)
        while True:
            try:
                event = self._codec.next_event()
            except h11.RemoteProtocolError:
                if data:
                    raise
                return b""  # the connection ended in the middle: the exchange is cut
            if event is h11.PAUSED and self._codec.their_state is h11.SWITCHED_PROTOCOL:
                self._switched = True
                self._accept_tunnel_bytes(self._codec.trailing_data[0])
                return b""
            if event is h11.NEED_DATA or event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                return self._codec.trailing_data[0] if self.complete else b""
            self._accept(event)

    async def _taken(self, count: int) -> None:
        """Nothing to do: TCP gives the credit."""

    def _accept(self, event: object) -> None:
        match event:
            case h11.InformationalResponse(status_code=status) if status != 101:
                self.informational.append(_head(event))
            case h11.InformationalResponse() | h11.Response():
                self._head = _head(event)
            case h11.Data(data=data):
                self._chunks.append(bytes(data))
            case h11.EndOfMessage(headers=trailers):
                self.trailers = list(trailers)
                self.complete = True

    def _accept_tunnel_bytes(self, data: bytes) -> None:
        if data:
            self._chunks.append(data)
        elif self._client.wire.ending is Ending.FIN:
            self.complete = True


def _head(event: h11.Response | h11.InformationalResponse) -> Head:
    return Head(event.status_code, list(event.headers), event.http_version.decode())
