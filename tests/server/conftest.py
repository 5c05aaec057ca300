"""Fixtures of the tests of a server as a whole."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from support.conversation import Begin
from support.serving import Connect, Serve
from support.steered_app import SteeredApp
from support.stopping import Stop
from support.talk import BeginTalk
from support.waiting import turns


@pytest.fixture
def begin(serve: Serve, connect: Connect, app: SteeredApp) -> Begin:
    return Begin(serve, connect, app)


@pytest.fixture
async def talk(serve: Serve, connect: Connect, app: SteeredApp) -> AsyncIterator[BeginTalk]:
    talk = BeginTalk(serve, connect, app)
    yield talk
    await talk.close()


@pytest.fixture
def stop(serve: Serve) -> Stop:
    """Begin to stop the server, and return when all has been said that it says at once."""

    async def begin_to_stop() -> "asyncio.Task[None]":
        stopping = asyncio.ensure_future(serve.servers[0].stop())
        await turns()
        return stopping

    return begin_to_stop
