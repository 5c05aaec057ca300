"""The beginning of a WebSocket conversation: a server, a client, a handshake, a call of the application."""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from .clock import ManualClock
from .exchange import Client
from .serving import Connect, Serve
from .steered_app import Call, SteeredApp
from .websocket_client import Offer, WebSocketClient, open_websocket


class Knock(NamedTuple):
    """A handshake that the application has not answered yet.

    Attributes:
        client: The connection.
        call: The application, before its first `receive()`.
        answer: The WebSocket of the client, once the server has answered.
    """

    client: Client
    call: Call
    answer: asyncio.Task[WebSocketClient]


class Talk(NamedTuple):
    """A WebSocket that is open, seen from both ends."""

    websocket: WebSocketClient
    call: Call


class BeginTalk:
    """Begins WebSocket conversations: `websocket, call = await talk()`; `await talk.knock()` up to the answer."""

    def __init__(self, serve: Serve, connect: Connect, app: SteeredApp) -> None:
        self._serve = serve
        self._connect = connect
        self._app = app
        self._answers: list[asyncio.Task[WebSocketClient]] = []

    async def __call__(
        self,
        *,
        fields: Sequence[tuple[bytes, bytes]] = (),
        deflate: bool = False,
        receive_window: int | None = None,
        clock: ManualClock | None = None,
        **settings: Any,
    ) -> Talk:
        """Serve the steered application, connect, shake hands and let the application accept.

        Args:
            fields: Additional request fields.
            deflate: Whether the client offers permessage-deflate.
            receive_window: See `http_client.connect`.
            clock: See `Serve`.
            settings: Of `Config`, where they differ from the test's defaults.
        """
        client = await self._connect(
            await self._serve(self._app, clock=clock, **settings), receive_window=receive_window
        )
        return await self.on(client, Offer(fields=fields, deflate=deflate))

    async def on(self, client: Client, offer: Offer | None = None) -> Talk:
        """Open a WebSocket on a connection; on HTTP/2 it may be one of many."""
        _, call, answer = await self.knock_on(client, "/", offer)
        await call.accept()
        return Talk(await answer, call)

    async def knock(
        self,
        target: str = "/",
        *,
        subprotocols: Sequence[str] = (),
        fields: Sequence[tuple[bytes, bytes]] = (),
        deflate: bool = False,
        receive_window: int | None = None,
        **settings: Any,
    ) -> Knock:
        """Serve the steered application, connect, and send a handshake."""
        url = await self._serve(self._app, **settings)
        client = await self._connect(url, receive_window=receive_window)
        return await self.knock_on(client, target, Offer(subprotocols, fields, deflate))

    async def knock_on(self, client: Client, target: str = "/", offer: Offer | None = None) -> Knock:
        """Send a handshake on a connection and wait until the application is called for it."""
        answer = asyncio.ensure_future(open_websocket(client, target, offer))
        self._answers.append(answer)
        return Knock(client, await self._app.next_call(), answer)

    async def close(self) -> None:
        """Give up waiting for answers that the test did not want."""
        for answer in self._answers:
            answer.cancel()
        await asyncio.gather(*self._answers, return_exceptions=True)
