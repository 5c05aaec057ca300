"""Waits with an end: a test that would hang fails instead, and says what it waited for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

PATIENCE_SECONDS = 10.0
"""How long a test waits for one thing before it fails; nothing here takes that long on purpose."""

TURNS = 30
"""More turns of the loop than anything needs that waits for nobody outside it."""


@contextlib.asynccontextmanager
async def within(what: str, seconds: float = PATIENCE_SECONDS) -> AsyncIterator[None]:
    """Fail with "waited ... for `what`" when the body takes longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds) as timer:
            yield
    except TimeoutError:
        if not timer.expired():
            raise
        raise AssertionError(f"waited {seconds:g} s for {what}") from None


async def until(condition: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Wait for something in the kernel or in the loop that nobody can await."""
    async with within(what, seconds):
        while not condition():  # noqa: ASYNC110 - nothing here can be awaited
            await asyncio.sleep(0.001)


async def turns(number: int = TURNS) -> None:
    """Let the loop turn so often; by default, until everybody waits for somebody outside.

    For where it is the turns that are counted, and for what must not have happened by then.
    """
    for _ in range(number):
        await asyncio.sleep(0)


async def stays_pending(task: asyncio.Future[Any], seconds: float = 0.1) -> bool:
    """Tell whether `task` is still waiting after `seconds`.

    One-sided: on a slow machine it may say yes too early, never no by mistake. Where the protocol
    has a round trip (a PING, a sibling stream), that proves more and is faster.
    """
    await asyncio.wait({task}, timeout=seconds)
    return not task.done()
