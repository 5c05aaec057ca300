"""Admission: so many requests at once, then a short queue, then a refusal (`--max-in-flight`).

Invariants:
- A request that waits has cost a scope and an exchange, but no task.
- Who has waited too long, or has gone meanwhile, never runs.
"""

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from .asgi import Scope
from .clock import NEVER, Clock, Timed
from .config import Config
from .limits import Limits

_SETTING: Final = "max_in_flight"


class Waiting(Protocol):
    """What waits: a request whose application has not been started."""

    scope: Scope

    @property
    def gone(self) -> bool:
        """Whether nobody waits for it any more."""

    def refuse(self) -> None:
        """Answer that the server has too much to do."""


_WaitingT = TypeVar("_WaitingT", bound=Waiting)


class Admission(Generic[_WaitingT]):
    """Counts the requests under way and keeps those that wait for their turn.

    Attributes:
        in_flight: How many are under way.
        deadline: When the first of the queue has waited long enough.
    """

    def __init__(self, config: Config, clock: Clock, limits: Limits) -> None:
        self.in_flight = 0
        self.deadline = NEVER
        self._most = config.max_in_flight
        self._most_waiting = config.max_queued
        self._patience = config.queue_timeout
        self._clock = clock
        self._limits = limits
        self._queue: deque[tuple[float, _WaitingT]] = deque()

    @property
    def open(self) -> bool:
        """Whether a request may begin at once."""
        return self.in_flight < self._most and not self._queue

    @property
    def queued(self) -> int:
        """How many wait, those that have gone meanwhile among them."""
        return len(self._queue)

    def wait(self, call: _WaitingT) -> None:
        """Let a request wait for its turn, or refuse it."""
        if len(self._queue) >= self._most_waiting:
            self._forget_gone()
        if len(self._queue) >= self._most_waiting:
            self._refuse(call)
            return
        if not self._queue:
            self._clock.watch(self)
        self._queue.append((self._clock.now() + self._patience, call))
        self._plan()

    def next(self) -> _WaitingT | None:
        """Return a request whose turn it is, if there is one and there is room for it."""
        if not self._queue:
            return None
        found = None
        while self._queue and found is None and self.in_flight < self._most:
            _, call = self._queue.popleft()
            if not call.gone:
                found = call
        self._plan()
        return found

    def expire(self) -> None:
        """Refuse those who have waited too long."""
        now = self._clock.now()
        while self._queue and self._queue[0][0] <= now:
            _, call = self._queue.popleft()
            if not call.gone:
                self._refuse(call)
        self._plan()

    def close(self) -> None:
        """Refuse all who wait: their turn will not come."""
        while self._queue:
            _, call = self._queue.popleft()
            if not call.gone:
                call.refuse()
        self._plan()

    def _refuse(self, call: _WaitingT) -> None:
        self._limits.hit(_SETTING, call.scope.get("client"), "a request was refused, there are too many")
        call.refuse()

    def _forget_gone(self) -> None:
        self._queue = deque(entry for entry in self._queue if not entry[1].gone)

    def _plan(self) -> None:
        self.deadline = self._queue[0][0] if self._queue else NEVER
        if not self._queue:
            self._clock.forget(self)


if TYPE_CHECKING:
    _: type[Timed] = Admission[Any]
