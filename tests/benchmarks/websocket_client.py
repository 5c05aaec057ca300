"""A load client: WebSocket messages that come back, so many in flight on each connection.

    python -m benchmarks.websocket_client --connections 32 --in-flight 16 --bytes 32 ws://127.0.0.1:8000/echo

picows speaks over HTTP/1.1; `--http2` speaks over HTTP/2 in the clear (RFC 8441), with frames made beforehand.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import urlsplit

import hpack
import picows

from benchmarks.clients import address, parser, run, say
from benchmarks.http2_wire import DATA, END_HEADERS, HEADERS, MAX_FRAME, Http2Wire, frame, status
from benchmarks.websocket_wire import MessageCounter, masked

STREAM = 1


class Echo(Protocol):
    """A connection whose messages come back.

    Attributes:
        count: How many have come back.
        closed: Whether the connection has ended.
    """

    count: int
    closed: bool

    def begin(self, in_flight: int) -> None:
        """Send the first messages; for each that comes back another is sent."""


class OverHttp1(picows.WSListener):
    """A connection of picows."""

    def __init__(self, message: bytes) -> None:
        self.count = 0
        self.closed = False
        self._message = message
        self._transport: picows.WSTransport

    def begin(self, in_flight: int) -> None:
        for _ in range(in_flight):
            self._transport.send(picows.WSMsgType.BINARY, self._message)

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type in (picows.WSMsgType.BINARY, picows.WSMsgType.CONTINUATION) and frame.fin:
            self.count += 1
            transport.send(picows.WSMsgType.BINARY, self._message)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self.closed = True


class OverHttp2(Http2Wire):
    """A connection with one WebSocket on it."""

    def __init__(self, message: bytes, accepted: "asyncio.Future[None]") -> None:
        super().__init__()
        self.count = 0
        self._message = masked(message)
        self._accepted = accepted
        self._messages = MessageCounter()
        self._stream_window = 0
        self._pending = bytearray()

    def begin(self, in_flight: int) -> None:
        self._pending += self._message * in_flight
        self.turn_ends()

    def ready(self) -> None:
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", "/echo"),
            ("sec-websocket-version", "13"),
        ]
        self._stream_window = self.initial_window
        self.transport.write(frame(HEADERS, END_HEADERS, STREAM, hpack.Encoder().encode(fields)))

    def head(self, stream: int, block: bytes, ended: bool) -> None:
        if status(block) == 200 and not ended:
            self._accepted.set_result(None)
        else:
            self._accepted.set_exception(ConnectionError(f"the server answered {status(block)}"))

    def data(self, stream: int, payload: bytes, ended: bool) -> None:
        back = self._messages.feed(payload)
        self.count += back
        self._pending += self._message * back
        if ended:
            self.transport.close()

    def failed(self, stream: int) -> None:
        self.transport.close()

    def credit(self, stream: int, count: int) -> None:
        if stream == STREAM:
            self._stream_window += count

    def turn_ends(self) -> None:
        count = min(len(self._pending), self._stream_window, self.connection_window)
        if count == 0:
            return
        now = bytes(self._pending[:count])
        del self._pending[:count]
        self._stream_window -= count
        self.connection_window -= count
        starts = range(0, count, MAX_FRAME)
        self.transport.write(
            b"".join(frame(DATA, 0, STREAM, now[start : start + MAX_FRAME]) for start in starts)
        )

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self._accepted.done():
            self._accepted.set_exception(ConnectionError("the server closed the connection"))


async def over_http1(url: str, message: bytes) -> Echo:
    """Connect over HTTP/1.1."""
    _, listener = await picows.ws_connect(lambda: OverHttp1(message), url)
    assert isinstance(listener, OverHttp1)
    return listener


async def over_http2(url: str, message: bytes) -> Echo:
    """Connect over HTTP/2, and wait until the WebSocket is accepted."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[None] = loop.create_future()
    _, echo = await loop.create_connection(lambda: OverHttp2(message, accepted), *address(url))
    await accepted
    return echo


async def main() -> None:
    """Run as the command line says."""
    options = parser(__doc__)
    options.add_argument("--in-flight", type=int, default=1)
    options.add_argument("--bytes", type=int, default=32)
    options.add_argument("--http2", action="store_true")
    arguments = options.parse_args()
    assert urlsplit(arguments.url).scheme == "ws"
    message = bytes(arguments.bytes)
    connect: Callable[[str, bytes], Awaitable[Echo]] = over_http2 if arguments.http2 else over_http1
    echoes = [await connect(arguments.url, message) for _ in range(arguments.connections)]
    started = time.perf_counter()
    for echo in echoes:
        echo.begin(arguments.in_flight)
    await asyncio.sleep(arguments.seconds)
    count, seconds = sum(echo.count for echo in echoes), time.perf_counter() - started
    say(requests=count, seconds=seconds, failed=sum(echo.closed for echo in echoes))


if __name__ == "__main__":
    run(main())
