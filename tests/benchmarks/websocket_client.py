"""A load client: WebSocket messages that come back, so many in flight on each connection.

    python -m benchmarks.websocket_client --connections 32 --in-flight 16 --bytes 32 ws://127.0.0.1:8000/echo

picows speaks over HTTP/1.1; `--http2` speaks over HTTP/2 in the clear (RFC 8441), with frames made beforehand.
"""

import asyncio
import time
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


class Frames(dict[int, bytes]):
    """The same message so many times, in DATA frames; made when it is first asked for, for all connections."""

    def __init__(self, message: bytes) -> None:
        super().__init__()
        self.message = masked(message)

    def __missing__(self, times: int) -> bytes:
        self[times] = frames = in_frames(self.message * times)
        return frames


def in_frames(content: bytes) -> bytes:
    """Return as many DATA frames as it takes."""
    starts = range(0, len(content), MAX_FRAME)
    return b"".join(frame(DATA, 0, STREAM, content[start : start + MAX_FRAME]) for start in starts)


class OverHttp2(Http2Wire):
    """A connection with one WebSocket on it."""

    def __init__(self, frames: Frames, accepted: "asyncio.Future[None]") -> None:
        super().__init__()
        self.count = 0
        self._frames = frames
        self._accepted = accepted
        self._messages = MessageCounter()
        self._stream_window = 0
        self._due = 0  # messages
        self._held_back = bytearray()  # of them, by a window

    def begin(self, in_flight: int) -> None:
        self._due = in_flight
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
        self._due += back
        if ended:
            self.transport.close()

    def failed(self, stream: int) -> None:
        self.transport.close()

    def credit(self, stream: int, count: int) -> None:
        if stream == STREAM:
            self._stream_window += count

    def turn_ends(self) -> None:
        size = self._due * len(self._frames.message)
        if self._held_back or size > min(self._stream_window, self.connection_window):
            self._send_what_fits()
        elif size:
            self._use(size)
            self.transport.write(self._frames[self._due])
            self._due = 0

    def _send_what_fits(self) -> None:
        self._held_back += self._frames.message * self._due
        self._due = 0
        size = min(len(self._held_back), self._stream_window, self.connection_window)
        if size > 0:
            self._use(size)
            self.transport.write(in_frames(bytes(self._held_back[:size])))
            del self._held_back[:size]

    def _use(self, size: int) -> None:
        self._stream_window -= size
        self.connection_window -= size

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self._accepted.done():
            self._accepted.set_exception(ConnectionError("the server closed the connection"))


async def over_http1(url: str, message: bytes) -> Echo:
    """Connect over HTTP/1.1."""
    _, listener = await picows.ws_connect(lambda: OverHttp1(message), url)
    assert isinstance(listener, OverHttp1)
    return listener


async def over_http2(url: str, frames: Frames) -> Echo:
    """Connect over HTTP/2, and wait until the WebSocket is accepted."""
    loop = asyncio.get_running_loop()
    accepted: asyncio.Future[None] = loop.create_future()
    _, echo = await loop.create_connection(lambda: OverHttp2(frames, accepted), *address(url))
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
    frames = Frames(message)
    echoes: list[Echo] = [
        await (over_http2(arguments.url, frames) if arguments.http2 else over_http1(arguments.url, message))
        for _ in range(arguments.connections)
    ]
    started = time.perf_counter()
    for echo in echoes:
        echo.begin(arguments.in_flight)
    await asyncio.sleep(arguments.seconds)
    count, seconds = sum(echo.count for echo in echoes), time.perf_counter() - started
    say(requests=count, seconds=seconds, failed=sum(echo.closed for echo in echoes))


if __name__ == "__main__":
    run(main())
