"""Servers and clients of one test, and the proof that nothing of them is left behind."""

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from h2.settings import SettingCodes

from alphorn.core.asgi import Application

from . import http_client
from .carrier import Carrier
from .certificates import Pair, authority
from .clock import ManualClock
from .engine import ENGINE
from .exchange import Client, Response
from .frames import FramePeer
from .http1_client import Http1Client
from .http2_client import Http2Client
from .steered_app import SteeredApp
from .waiting import within
from .websocket_client import Offer, WebSocketClient, open_websocket

if TYPE_CHECKING:
    from alphorn import Server

LINGER_SECONDS = 1.0
"""How long what has been closed may take to be gone: a few turns of the loop."""


DESCRIPTORS = Path("/dev/fd")


class Serve:
    """Starts servers in the loop of the test.

    Attributes:
        servers: Those started so far.
    """

    def __init__(self, carrier: Carrier, certificate: Pair) -> None:
        self.servers: list[Server] = []
        self._carrier = carrier
        self._certificate = certificate
        self._apps: list[Application] = []
        self._clocks: list[ManualClock | None] = []
        self._tasks_before = asyncio.all_tasks()

    async def __call__(self, app: Application, *, clock: ManualClock | None = None, **settings: Any) -> str:
        """Serve `app` as the carrier asks, clear or TLS, and return the URL.

        Args:
            app: Any ASGI 3 application.
            clock: The time of the server, in the test's hand; without one it is the real time.
            settings: Of `Config`, where they differ from the test's defaults.
        """
        from alphorn import Config, Server  # here, so that tests of a single room do not load every room

        defaults: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "graceful_timeout": 2.0, "engine": ENGINE}
        defaults["blocked_loop_after"] = 0.0  # who blocks the loop of a test is the test
        if self._carrier.secure:
            defaults |= {"certfile": self._certificate.certfile, "keyfile": self._certificate.keyfile}
        server = Server(app, Config(**(defaults | settings)), clock=clock)
        async with within("the server to start"):
            await server.__aenter__()
        self.servers.append(server)
        self._apps.append(app)
        self._clocks.append(clock)
        return server.urls[0]

    async def close(self) -> None:
        """Stop the servers; fail if a task or a connection of theirs is left."""
        for app in self._apps:
            if isinstance(app, SteeredApp):
                app.finish_all()
        ports = {urlsplit(url).port for server in self.servers for url in server.urls}
        for server, clock in zip(self.servers, self._clocks, strict=True):
            async with within("the server to stop"):
                await _stop(server, clock)
        left = asyncio.all_tasks() - self._tasks_before - {asyncio.current_task()}
        if left:
            _, left = await asyncio.wait(left, timeout=LINGER_SECONDS)
            assert not left, f"tasks left behind: {left}"
        connections = await _connections_left(ports)
        assert not connections, f"connections left open: {connections}"


class Connect:
    """Connects clients to servers and closes them at the end of the test."""

    def __init__(self, carrier: Carrier) -> None:
        self.carrier = carrier
        self._clients: list[Client | FramePeer] = []

    async def __call__(
        self, url: str, *, tls: ssl.SSLContext | None = None, receive_window: int | None = None
    ) -> Client:
        """Connect as the carrier asks; see `http_client.connect`."""
        client = await http_client.connect(
            url, self.carrier, tls=tls or authority().client_context(), receive_window=receive_window
        )
        self._clients.append(client)
        return client

    async def fetch(
        self,
        url: str,
        method: str = "GET",
        target: str = "/",
        fields: Sequence[tuple[bytes, bytes]] = (),
        content: bytes | None = None,
    ) -> Response:
        """Make one request on a connection of its own, as the carrier asks."""
        client = await self(url)
        exchange = await client.request(method, target, fields, content)
        response = await exchange.response()
        client.close()
        return response

    async def http1(
        self, url: str, *, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None
    ) -> Http1Client:
        """Connect with HTTP/1.1 whatever the carrier; see `http_client.connect_http1`."""
        client = await http_client.connect_http1(
            url, tls=tls or authority().client_context(), receive_buffer=receive_buffer
        )
        self._clients.append(client)
        return client

    async def http2(
        self,
        url: str,
        *,
        tls: ssl.SSLContext | None = None,
        receive_window: int | None = None,
        settings: dict[SettingCodes, int] | None = None,
    ) -> Http2Client:
        """Connect with HTTP/2 whatever the carrier; see `http_client.connect_http2`."""
        client = await http_client.connect_http2(
            url,
            tls=tls or authority().client_context(),
            receive_window=receive_window,
            settings=settings,
        )
        self._clients.append(client)
        return client

    async def frames(
        self, url: str, settings: dict[int, int] | None = None, *, start: bool = True
    ) -> FramePeer:
        """Connect a peer that speaks HTTP/2 frame by frame, with the prefaces exchanged unless told not to."""
        peer = FramePeer(
            await http_client.open_wire(url, http_client.ALPN["2"], tls=authority().client_context())
        )
        self._clients.append(peer)
        if start:
            await peer.start(settings)
        return peer

    async def websocket(
        self,
        url: str,
        target: str = "/",
        *,
        subprotocols: Sequence[str] = (),
        fields: Sequence[tuple[bytes, bytes]] = (),
        deflate: bool = False,
        receive_window: int | None = None,
    ) -> WebSocketClient:
        """Connect as the carrier asks and open a WebSocket; see `websocket_client.open_websocket`."""
        client = await self(url, receive_window=receive_window)
        return await open_websocket(client, target, Offer(subprotocols, fields, deflate))

    def close(self) -> None:
        """Close every client."""
        for client in self._clients:
            client.close()


async def _stop(server: "Server", clock: ManualClock | None) -> None:
    """Stop a server; a clock that stands still gives no grace, so let it go on if that is waited for."""
    stopping = asyncio.ensure_future(server.stop())
    if clock is not None:
        while not (await asyncio.wait({stopping}, timeout=LINGER_SECONDS))[0]:
            clock.advance(server.config.graceful_timeout)
    await stopping


async def _connections_left(ports: set[int | None]) -> list[str]:
    deadline = asyncio.get_running_loop().time() + LINGER_SECONDS
    while connections := _open_sockets(ports):
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(0.01)
    return connections


def _open_sockets(ports: set[int | None]) -> list[str]:
    """Find the sockets of this process bound to one of `ports`, where the system lists descriptors."""
    found = []
    for entry in DESCRIPTORS.iterdir() if DESCRIPTORS.is_dir() else ():
        try:
            if not stat.S_ISSOCK(os.fstat(int(entry.name)).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as copy:
                address = copy.getsockname()
                if isinstance(address, tuple) and address[1] in ports:
                    found.append(f"{address} with {_peer_of(copy)}")
        except OSError:
            continue  # the descriptor of the listing itself, or one that has just been closed
    return found


def _peer_of(connection: socket.socket) -> str:
    try:
        return str(connection.getpeername())
    except OSError:
        return "nobody (a listener, or a connection whose peer has gone)"
