"""A load client that makes none: opens connections, uses each once, and leaves them open.

    python -m benchmarks.idle_client --connections 1000 http://127.0.0.1:8000

Says so with a line of JSON, and ends when its standard input does. ws:// opens WebSockets.
"""

import asyncio
import sys
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import picows

from benchmarks.clients import address, parser, run, say

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
MESSAGE = b"x" * 32
AT_ONCE = 50


class Idle(picows.WSListener):
    """A WebSocket whose one message has come back, or not yet."""

    def __init__(self) -> None:
        self.echoed = asyncio.Event()

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        self.echoed.set()


class Kept(NamedTuple):
    """An open connection.

    Attributes:
        transport: What keeps it open.
        is_closed: Whether the server has closed it all the same.
    """

    transport: object
    is_closed: Callable[[], bool]


async def open_http(url: str) -> Kept:
    """Open a connection and have a request answered."""
    reader, writer = await asyncio.open_connection(*address(url))
    writer.write(REQUEST)
    await reader.readuntil(b"Hello, world!")
    return Kept(writer, reader.at_eof)


async def open_websocket(url: str) -> Kept:
    """Open a WebSocket and have a message echoed."""
    transport, listener = await picows.ws_connect(Idle, url)
    assert isinstance(listener, Idle)
    transport.send(picows.WSMsgType.BINARY, MESSAGE)
    await listener.echoed.wait()
    return Kept(transport, lambda: transport.is_disconnected)


async def main() -> None:
    """Run as the command line says."""
    arguments = parser(__doc__).parse_args()
    connect = open_websocket if urlsplit(arguments.url).scheme == "ws" else open_http
    kept: list[Kept] = []
    while len(kept) < arguments.connections:
        # Some at once, so that all are open before the first has been idle for too long.
        count = min(AT_ONCE, arguments.connections - len(kept))
        kept += await asyncio.gather(*(connect(arguments.url) for _ in range(count)))
    say(requests=len(kept), seconds=0.0, failed=sum(each.is_closed() for each in kept))
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    run(main())
