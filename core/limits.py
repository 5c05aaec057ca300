"""Limits: budgets that refill, how many connections there are, and what came of every limit.

Invariants:
- What a peer does within its limits costs an addition; the time is read when a budget runs out.
- Who attacks must not be able to fill the log either: hits are counted, and named only so often.
"""

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Callable
from typing import Final

from .asgi import Address
from .clock import NEVER, Clock
from .log import error_log, format_address

BUDGET_SECONDS: Final = 10.0
"""In this time a budget that is used up is whole again."""

LEAST_RATE: Final = 240
"""Bytes per second that a client has to take of what waits for it: less is no progress (Kestrel: 240)."""

_LINES: Final = 30  # in the log about limits, per `BUDGET_SECONDS`
_MOST_NAMED: Final = 1024  # connections that are remembered for having been named in the log
_NETWORK_BITS: Final = 64  # of an IPv6 address: what one customer is given (RFC 6177)


class Budget:
    """Something that a peer may do so often at once; what it used comes back evenly in `BUDGET_SECONDS`."""

    __slots__ = ("_clock", "_left", "_most", "_refilled_at")

    def __init__(self, clock: Clock, most: int) -> None:
        self._clock = clock
        self._most = self._left = float(most)
        self._refilled_at = clock.now()

    def spend(self, amount: float = 1) -> bool:
        """Use some of it; tell whether there was enough left. If not, nothing is used."""
        if self._left < amount:
            now = self._clock.now()
            regained = (now - self._refilled_at) * self._most / BUDGET_SECONDS
            self._refilled_at = now
            self._left = min(self._most, self._left + regained)
            if self._left < amount:
                return False
        self._left -= amount
        return True

    def earn(self, amount: float = 1) -> None:
        """Give some of it back, for something useful that the peer has done."""
        self._left = min(self._most, self._left + amount)


class Pace:
    """How quickly the content of one request comes, while its application waits for it.

    Only that time counts: a client cannot help it if nobody reads what it sends. Whoever keeps a pace
    looks at the clock; here time is handed in, in seconds.
    """

    __slots__ = ("_came", "_due", "_least", "_left", "_seconds")

    def __init__(self, seconds: float, rate: int) -> None:
        """Ask for nothing yet.

        Args:
            seconds: How long a period of waiting is (`--body-timeout`).
            rate: The bytes per second that have to come in each of them, on average (`--body-min-rate`).
        """
        self._seconds = self._left = seconds
        self._least = rate * seconds
        self._came = 0
        self._due = NEVER

    def start(self, now: float) -> float:
        """Begin to wait; return when the period is over, if nothing comes before."""
        self._due = now + self._left
        return self._due

    def stop(self, now: float, came: int) -> None:
        """Wait no more, for bytes have come."""
        self._came += came
        if self._due != NEVER:
            self._left = max(0.0, self._due - now)
            self._due = NEVER

    def renew(self) -> bool:
        """Tell, at the end of a period, whether enough has come in it; then begin the next."""
        enough = self._came >= self._least
        self._came = 0
        self._left = self._seconds
        self._due = NEVER
        return enough


class Occupancy:
    """How many connections there are, in all and of each client.

    Attributes:
        total: How many in all.
    """

    def __init__(self, most: int, most_per_address: int) -> None:
        """Begin with none.

        Args:
            most: The most in all.
            most_per_address: The most of one client; 0 for any number.
        """
        self.total = 0
        self._most = most
        self._most_per_address = most_per_address
        self._by_client: Counter[str] = Counter()
        self._waiting: list[Callable[[], object]] = []

    @property
    def full(self) -> bool:
        """Whether there is no place for another connection."""
        return self.total >= self._most

    def crowded(self, client: Address | None) -> bool:
        """Whether this client has as many connections as one may have."""
        if not self._most_per_address or client is None:
            return False
        return self._by_client[_network(client)] >= self._most_per_address

    def enter(self, client: Address | None) -> None:
        """Count a connection."""
        self.total += 1
        if self._most_per_address and client is not None:
            self._by_client[_network(client)] += 1

    def leave(self, client: Address | None) -> None:
        """Count a connection no more, and let those know who wait for a place."""
        self.total -= 1
        if self._most_per_address and client is not None:
            network = _network(client)
            self._by_client[network] -= 1
            if not self._by_client[network]:
                del self._by_client[network]
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for call in waiting:
                call()

    async def wait_empty(self) -> None:
        """Wait until there is no connection."""
        while self.total:
            left = asyncio.Event()
            self.when_left(left.set)
            await left.wait()  # until a turn later: one that is handed over leaves and enters again

    def when_left(self, call: Callable[[], object]) -> None:
        """Call this once, when the next connection has left."""
        self._waiting.append(call)


class Limits:
    """What all connections of a server have to do with limits.

    Attributes:
        occupancy: How many connections there are.
        hits: How often each limit was hit, by the name of its setting.
    """

    def __init__(self, clock: Clock, occupancy: Occupancy) -> None:
        self.occupancy = occupancy
        self.hits: Counter[str] = Counter()
        self._lines = Budget(clock, _LINES)
        self._left_out = 0
        self._named: dict[Address, None] = {}  # the oldest first

    def hit(self, setting: str, client: Address | None, what: str) -> None:
        """Count that a client went beyond a limit, and log it, once per connection.

        Nothing is logged while too much was logged just now; how much was left out is said afterwards.

        Args:
            setting: The name of the limit, in Config.
            client: Who it was.
            what: What the client did, and what became of it; nothing of it in the client's own words.
        """
        self.hits[setting] += 1
        if client in self._named:  # an address and its port are a connection
            return
        if not self._lines.spend():
            self._left_out += 1
            return
        if client is not None:
            self._remember(client)
        more = f"; {self._left_out} such lines were left out before this one" if self._left_out else ""
        self._left_out = 0
        flag = setting.replace("_", "-")
        error_log.warning("%s: %s (--%s)%s", format_address(client), what, flag, more)

    def _remember(self, client: Address) -> None:
        if len(self._named) >= _MOST_NAMED:
            del self._named[next(iter(self._named))]
        self._named[client] = None


def _network(client: Address) -> str:
    """Return what counts as one client: an IPv4 address, an IPv6 network."""
    host = client[0]
    if ":" not in host:
        return host
    try:
        return str(ipaddress.ip_network((host.partition("%")[0], _NETWORK_BITS), strict=False))
    except ValueError:
        return host
