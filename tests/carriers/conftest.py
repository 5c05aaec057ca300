"""Fixtures of the carriers suite."""

from collections.abc import AsyncIterator

import pytest

from support.conversation import Begin
from support.serving import Connect, Serve
from support.steered_app import SteeredApp
from support.talk import BeginTalk


@pytest.fixture
def begin(serve: Serve, connect: Connect, app: SteeredApp) -> Begin:
    """Begin conversations with the steered application: `client, exchange, call = await begin()`."""
    return Begin(serve, connect, app)


@pytest.fixture
async def talk(serve: Serve, connect: Connect, app: SteeredApp) -> AsyncIterator[BeginTalk]:
    """Begin WebSocket conversations with the steered application: `websocket, call = await talk()`."""
    talk = BeginTalk(serve, connect, app)
    yield talk
    await talk.close()
