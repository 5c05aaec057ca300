"""Admission: so many requests at once, then a short queue, then a refusal (`--max-in-flight`).

Invariants:
- A request that waits has cost a scope and an exchange, but no task.
- No client address has more than its share of the places (`--max-in-flight-share`), so that one alone
  cannot keep all others waiting. Whose requests end at once is not counted: they take no place.
- While there is a place, nobody waits but those who have their share already.
- Who has waited too long, or has gone meanwhile, never runs.
"""

from collections import Counter, deque
from math import ceil
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from .asgi import Address, Scope
from .clock import NEVER, Clock, Timed
from .config import Config
from .limits import Limits

_SETTING: Final = "max_in_flight"
# A full queue is looked through for those who have gone with one in so many of those it has no room for: to
# look at a thousand for each of them would cost more than to answer.
_REFUSALS_PER_LOOK: Final = 64


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
        share: How many of them one client address may have.
        queue: Who waits and until when, the first to come first; those that have gone meanwhile among them.
        deadline: When the first of the queue has waited long enough.
    """

    def __init__(self, config: Config, clock: Clock, limits: Limits) -> None:
        self.in_flight = 0
        self.deadline = NEVER
        self._most = config.max_in_flight
        self.share = max(1, ceil(self._most * config.max_in_flight_share))
        self._clients: dict[_WaitingT, str] = {}  # who has the places
        self._held: Counter[str] = Counter()  # how many of them
        self._most_waiting = config.max_queued
        self._patience = config.queue_timeout
        self._clock = clock
        self._limits = limits
        self.queue: deque[tuple[float, _WaitingT]] = deque()
        self._unlooked = _REFUSALS_PER_LOOK  # how often the queue was full since it was looked through

    def admits(self, call: _WaitingT) -> bool:
        """Whether a request may begin at once, where others wait or have more places than one may have."""
        return self.in_flight < self._most and self._has_share(call)

    def enter(self, call: _WaitingT, client: Address | None) -> None:
        """Note who has taken a place; `in_flight` counts it already.

        Args:
            call: The request.
            client: Whose it was before the application, which may have written another there.
        """
        if client is not None:
            self._clients[call] = client[0]
            self._held[client[0]] += 1

    def leave(self, call: _WaitingT) -> None:
        """Give a place back."""
        self.in_flight -= 1
        client = self._clients.pop(call, None)
        if client is not None:
            self._held[client] -= 1
            if not self._held[client]:
                del self._held[client]

    def wait(self, call: _WaitingT) -> None:
        """Let a request wait for its turn, or refuse it."""
        if len(self.queue) >= self._most_waiting:
            self._forget_gone()
        if len(self.queue) >= self._most_waiting:
            self._refuse(call)
            return
        if not self.queue:
            self._clock.watch(self)
        self.queue.append((self._clock.now() + self._patience, call))
        self._plan()

    def next(self) -> _WaitingT | None:
        """Return a request whose turn it is, if there is one and there is room for it."""
        if not self.queue or self.in_flight >= self._most:
            return None
        while self.queue and self.queue[0][1].gone:
            self.queue.popleft()
        found = None
        for place, (_, call) in enumerate(self.queue):
            if not call.gone and self._has_share(call):
                del self.queue[place]
                found = call
                break
        self._plan()
        return found

    def expire(self) -> None:
        """Refuse those who have waited too long."""
        now = self._clock.now()
        while self.queue and self.queue[0][0] <= now:
            _, call = self.queue.popleft()
            if not call.gone:
                self._refuse(call)
        self._plan()

    def close(self) -> None:
        """Refuse all who wait: their turn will not come."""
        while self.queue:
            _, call = self.queue.popleft()
            if not call.gone:
                call.refuse()
        self._plan()

    def _has_share(self, call: _WaitingT) -> bool:
        client = call.scope.get("client")
        return client is None or self._held[client[0]] < self.share

    def _refuse(self, call: _WaitingT) -> None:
        self._limits.hit(_SETTING, call.scope.get("client"), "a request was refused, there are too many")
        call.refuse()

    def _forget_gone(self) -> None:
        self._unlooked += 1
        if self._unlooked >= _REFUSALS_PER_LOOK:
            self._unlooked = 0
            self.queue = deque(entry for entry in self.queue if not entry[1].gone)

    def _plan(self) -> None:
        self.deadline = self.queue[0][0] if self.queue else NEVER
        if not self.queue:
            self._clock.forget(self)


if TYPE_CHECKING:
    _: type[Timed] = Admission[Any]
