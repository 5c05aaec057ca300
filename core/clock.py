"""One tick per worker: the `date` field and all deadlines. The only reader of the time.

A deadline is a float on the object it belongs to, looked at once a second; nobody makes a
timer per request. Deadlines are therefore late by up to one tick, never early. Where thousands pass
at once, they are acted on in turns with others. Tests hand in a clock that stands still until they
advance it.
"""

import asyncio
import contextlib
import time
from contextlib import AbstractAsyncContextManager
from email.utils import formatdate
from typing import Final, Protocol

from .log import error_log

TICK_SECONDS = 1.0
NEVER = float("inf")

# Deadlines that are acted on before others get their turn: to close a connection takes up to 0.1 ms.
_EXPIRED_PER_TURN: Final = 16


class Timed(Protocol):
    """Something with a deadline on the clock."""

    deadline: float

    def expire(self) -> None:
        """Act on a deadline that has passed; sets the next one, or `NEVER`."""


class Clock:
    """The time of one worker.

    Attributes:
        date: The value of the `date` field (RFC 9110, 6.6.1), renewed every tick.
        ticked_at: The time of the last tick, for those to whom a second makes no difference.
    """

    def __init__(self) -> None:
        self.date = formatdate(usegmt=True).encode()
        self.ticked_at = self.now()
        self._to_unix = self.unix_time() - self.ticked_at
        self._watched: dict[Timed, None] = {}  # in the order in which they came
        self._timer: asyncio.TimerHandle | None = None

    now = staticmethod(time.monotonic)
    """Return monotonic seconds, the scale of every deadline."""

    def unix_time(self) -> float:
        """Return the seconds since the epoch, for logs and the times of files."""
        return time.time()

    def unix_time_at(self, moment: float) -> float:
        """Return the seconds since the epoch at a moment of this clock, some time ago at the most."""
        return moment + self._to_unix

    def timeout(self, seconds: float) -> AbstractAsyncContextManager[object]:
        """Bound a block of code, as `asyncio.timeout` does: exactly, not by the tick.

        Raises:
            TimeoutError: From the block, when it took longer.
        """
        return asyncio.timeout(seconds)

    async def sleep(self, seconds: float) -> None:
        """Wait for so long."""
        with contextlib.suppress(TimeoutError):
            async with self.timeout(seconds):
                await asyncio.get_running_loop().create_future()

    def start(self) -> None:
        """Begin to tick in the running loop."""
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._run)

    def stop(self) -> None:
        """Stop ticking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def watch(self, timed: Timed) -> None:
        """Look at `timed.deadline` every tick from now on."""
        self._watched[timed] = None

    def forget(self, timed: Timed) -> None:
        """Stop looking; harmless for what was never watched."""
        self._watched.pop(timed, None)

    def tick(self) -> None:
        """Renew the date and act on every deadline that has passed."""
        self._expire_all(self._renew())

    def _renew(self) -> list[Timed]:
        """Renew the date; return those whose deadline has passed."""
        self.date = formatdate(usegmt=True).encode()
        self.ticked_at = now = self.now()
        self._to_unix = self.unix_time() - now
        return [timed for timed in self._watched if timed.deadline <= now]

    def _expire_all(self, due: list[Timed]) -> None:
        for timed in due:
            # Asked again: the ones before it may have moved its deadline, or had it forgotten.
            if timed in self._watched and timed.deadline <= self.ticked_at:
                self._expire(timed)

    def _expire_in_turns(self, due: list[Timed]) -> None:
        self._expire_all(due[:_EXPIRED_PER_TURN])
        rest = due[_EXPIRED_PER_TURN:]
        if rest:
            asyncio.get_running_loop().call_soon(self._expire_in_turns, rest)

    def _expire(self, timed: Timed) -> None:
        """Act on one deadline; a fault in it is not the others', and is not repeated every second."""
        deadline = timed.deadline
        try:
            timed.expire()
        except Exception:  # noqa: BLE001 - a bug of ours; time goes on for everybody else
            error_log.exception("a deadline could not be acted on")
            if timed.deadline == deadline:
                timed.deadline = NEVER

    def _run(self) -> None:
        self.start()
        self._expire_in_turns(self._renew())
