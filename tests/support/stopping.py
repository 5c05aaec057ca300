"""What tests of a server's end have in common; the fixture `stop` is in tests/server/conftest.py."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from .steered_app import Call
from .waiting import within

GRACE: Final = 30.0

Stop = Callable[[], Awaitable["asyncio.Task[None]"]]
"""Begins to stop the server, and returns when all has been said that it says at once."""


async def ended(stopping: "asyncio.Task[None]") -> None:
    async with within("the server to stop"):
        await stopping


async def until_disconnect(call: Call) -> None:
    while (await call.receive())["type"] != "http.disconnect":
        pass
