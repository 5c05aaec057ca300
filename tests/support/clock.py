"""A clock that stands still until the test advances it, so that no test sleeps through a deadline.

For a server that is `await serve(app, clock=clock)`; then `clock.advance(10)` is its head timeout.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from alphorn.core.clock import NEVER, TICK_SECONDS, Clock


class ManualClock(Clock):
    """The time of a server under test.

    It knows nothing of the loop's own timers (the TLS handshake has one).
    """

    def __init__(self) -> None:
        self._now = 1000.0
        super().__init__()
        self._alarms: list[_Alarm] = []

    def now(self) -> float:
        """Return the time that the test has made it."""
        return self._now

    def start(self) -> None:
        """Do nothing: the test makes it tick."""

    def advance(self, seconds: float) -> None:
        """Let time pass, tick by tick, as the server would live through it.

        All deadlines up to then have been acted on when this returns; what wakes a task by that takes
        the loop's next turns, so a test awaits the effect.
        """
        end = self._now + seconds
        while self._now < end:
            self._now = min(self._now + TICK_SECONDS, end)
            self.tick()
            for alarm in self._alarms:
                alarm.ring_if_due(self._now)

    @contextlib.asynccontextmanager
    async def timeout(self, seconds: float) -> AsyncIterator[object]:
        """Bound a block of code in the time of this clock."""
        async with asyncio.timeout(0 if seconds <= 0 else None) as timer:
            alarm = _Alarm(self._now + seconds, timer)
            self._alarms.append(alarm)
            try:
                yield timer
            finally:
                self._alarms.remove(alarm)


@dataclass(eq=False)
class _Alarm:
    at: float
    timer: asyncio.Timeout

    def ring_if_due(self, now: float) -> None:
        if now >= self.at:
            self.at = NEVER
            self.timer.reschedule(0)
