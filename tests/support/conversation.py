"""The beginning that most tests of the carriers share: a server, a client, a request, a call of the application."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from .exchange import Client, ClientExchange
from .serving import Connect, Serve
from .steered_app import Call, SteeredApp
from .waiting import turns


class Conversation(NamedTuple):
    """One request under way, seen from both ends."""

    client: Client
    exchange: ClientExchange
    call: Call


class Begin:
    """Begins conversations: `client, exchange, call = await begin("POST", "/", content=b"x")`.

    Attributes:
        url: Of the server that was started last.
    """

    def __init__(self, serve: Serve, connect: Connect, app: SteeredApp) -> None:
        self.url = ""
        self._serve = serve
        self._connect = connect
        self._app = app

    async def __call__(
        self,
        method: str = "GET",
        target: str = "/",
        fields: Sequence[tuple[bytes, bytes]] = (),
        content: bytes | None = None,
        *,
        end: bool = True,
        receive_window: int | None = None,
        **settings: Any,
    ) -> Conversation:
        """Serve the steered application, connect, send a request and wait for the application's call.

        Args:
            method: See `Client.request`, like the three that follow.
            target: See there.
            fields: See there.
            content: See there.
            end: See there.
            receive_window: See `http_client.connect`.
            settings: Of `Config`, where they differ from the test's defaults.
        """
        self.url = await self._serve(self._app, **settings)
        client = await self._connect(self.url, receive_window=receive_window)
        return await self.on(client, method, target, fields, content, end=end)

    async def on(
        self,
        client: Client,
        method: str = "GET",
        target: str = "/",
        fields: Sequence[tuple[bytes, bytes]] = (),
        content: bytes | None = None,
        *,
        end: bool = True,
    ) -> Conversation:
        """Send one more request on a connection; the application must not be behind with its calls."""
        exchange = await client.request(method, target, fields, content, end=end)
        return Conversation(client, exchange, await self._app.next_call())


async def settled(measure: Callable[[], object]) -> None:
    """Wait until a measure stops changing, because everybody waits for somebody.

    One-sided, like `stays_pending`, but faster: every turn of the loop asks all sockets.
    """
    before = object()
    while (now := measure()) != before:
        before = now
        await turns()


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what the server has logged as errors."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "alphorn.error" and record.levelno >= logging.ERROR
    ]
