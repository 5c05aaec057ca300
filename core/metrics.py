"""Metrics: what one worker counts, as plain numbers; and the sums of several workers.

Invariants:
- Nobody counts where nobody asks: without `--admin-bind` none of this exists.
- A sum of counters never falls, whichever worker was replaced; a fall would be taken for a restart of all.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from .asgi import Scope
from .clock import Clock
from .log import format_address, printable
from .outcome import Outcome

DURATION_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds: those of Prometheus' clients, with steps below for a server whose answers are quick."""

SLOW_SECONDS: Final = 1.0
"""A request that takes longer is remembered for `alphorn ctl slow`."""

_SLOW_REMEMBERED: Final = 100
_PROTOCOLS: Final = {"1.0": "http/1.0", "1.1": "http/1.1", "2": "http/2"}
_ACCEPTED: Final = (101, 200)  # RFC 6455, 4.2.2 and RFC 8441, 5

Numbers: TypeAlias = Any
"""A number, or a list or dict of such, as JSON has them."""


class Histogram:
    """How often something took how long.

    Attributes:
        counts: One per bound, and one for what is beyond the last.
        sum: Of all, in seconds.
    """

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    def numbers(self) -> Numbers:
        """Return what was counted."""
        return {"counts": list(self.counts), "sum": self.sum}


class ObservedConnection(Protocol):
    """A connection that knows what passed over it.

    Attributes:
        secure: Whether it is TLS.
        opened_at: When it began, on the clock.
        received: How many bytes came; over TLS, what they said.
    """

    secure: bool
    opened_at: float
    received: int

    @property
    def protocol(self) -> str:
        """What it speaks, such as "http/1.1"."""

    @property
    def sent(self) -> int:
        """How many bytes left, or wait for the client; before TLS."""

    @property
    def requests(self) -> int:
        """How many requests there were."""

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""


class Slow(NamedTuple):
    """A request that took long, and has ended."""

    ended_at: float
    row: dict[str, Any]


class Metrics:
    """What one worker counts.

    Attributes:
        live: The connections that are there, by themselves.
        opened: Connections so far, by protocol.
        websockets: WebSockets accepted so far.
        messages: WebSocket messages, "received" and "sent".
        resets: HTTP/2 streams that ended in a reset, by who did it: "client" or "server".
        handshakes: Of TLS, "completed" and "failed".
        slow: The newest requests that took long.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # What is known from the start begins with 0: a series that begins with its first error looks like none.
        known = ((protocol, hundreds) for protocol in ("http/1.1", "http/2") for hundreds in (2, 3, 4, 5))
        self._requests: Counter[tuple[str, int]] = Counter(dict.fromkeys(known, 0))
        self._durations = {name: Histogram(DURATION_BOUNDS) for name in _PROTOCOLS.values()}
        self._received = 0  # by connections that are gone
        self._sent = 0
        self.live: dict[object, ObservedConnection] = {}
        self.opened = Counter({"http/1.1": 0, "http/2": 0})
        self.websockets = 0
        self.messages = Counter(received=0, sent=0)
        self.resets = Counter(client=0, server=0)
        self.handshakes = Counter(completed=0, failed=0)
        self.slow: deque[Slow] = deque(maxlen=_SLOW_REMEMBERED)

    def observe(self, outcome: Outcome) -> None:
        """Count a request that has ended; an accepted WebSocket was none."""
        scope, status, _, _, seconds, _, _ = outcome
        if scope.get("type") == "websocket" and status in _ACCEPTED:
            return
        protocol = protocol_of(scope)
        self._requests[protocol, status // 100] += 1
        if seconds is not None and protocol in self._durations:
            self._durations[protocol].observe(seconds)
            if seconds >= SLOW_SECONDS:
                self.slow.append(Slow(self._clock.now(), describe_request(outcome)))

    def joined(self, connection: ObservedConnection) -> None:
        """Count a connection."""
        self.live[connection] = connection
        self.opened[connection.protocol] += 1

    def left(self, connection: object) -> None:
        """Keep the numbers of a connection that is gone; harmless for one that is not counted."""
        gone = self.live.pop(connection, None)
        if gone is not None:
            self._received += gone.received
            self._sent += gone.sent

    def counters(self) -> Numbers:
        """Return what only ever grows."""
        requests: dict[str, dict[str, int]] = {}
        for (protocol, hundreds), count in self._requests.items():
            requests.setdefault(protocol, {})[f"{hundreds}xx" if hundreds else "none"] = count
        return {
            "requests": requests,
            "durations": {name: histogram.numbers() for name, histogram in self._durations.items()},
            "opened": dict(self.opened),
            "received": self._received + sum(connection.received for connection in self.live.values()),
            "sent": self._sent + sum(connection.sent for connection in self.live.values()),
            "websockets": self.websockets,
            "messages": dict(self.messages),
            "resets": dict(self.resets),
            "handshakes": dict(self.handshakes),
        }


def protocol_of(scope: Scope) -> str:
    """Return the name of a request's protocol; "other" if nobody could read it, or its application spoilt it."""
    try:
        return _PROTOCOLS[scope["http_version"]]
    except Exception:  # noqa: BLE001 - the scope is the application's
        return "other"


def describe_request(outcome: Outcome) -> dict[str, Any]:
    """Return what to tell the operator of a request, under way or ended; not its query, which may have secrets."""
    scope, status, _, length, seconds, _, stream_id = outcome
    try:
        client = format_address(scope["client"])
    except Exception:  # noqa: BLE001 - the scope is the application's
        client = "-"
    return {
        "client": client,
        "protocol": protocol_of(scope),
        "stream": stream_id or None,
        "method": printable(scope.get("method", "WEBSOCKET")),
        "path": printable(scope.get("path")),
        "status": status or None,
        "seconds": round(seconds or 0.0, 3),
        "sent": length,
    }


# --- Several workers


class Totals:
    """The sums of the counters of all workers that were ever asked, those that are gone among them."""

    def __init__(self) -> None:
        self._gone: Numbers = {}
        self._last: dict[int, Numbers] = {}

    def add(self, answers: Iterable[dict[str, Any]], alive: Iterable[int]) -> Numbers:
        """Take what workers have answered and return the sums.

        Args:
            answers: Each with `pid` and `counters`; who has not answered counts with its last answer.
            alive: The processes of the workers that are there.
        """
        self._last |= {answer["pid"]: answer["counters"] for answer in answers}
        for pid in self._last.keys() - set(alive):
            self._gone = add(self._gone, self._last.pop(pid))
        total = self._gone
        for counters in self._last.values():
            total = add(total, counters)
        return total


def add(one: Numbers, other: Numbers) -> Numbers:
    """Add numbers of the same shape; what is missing in a dict is nothing."""
    if isinstance(one, dict):
        return {
            name: add(one[name], other[name]) if name in one and name in other else (one | other)[name]
            for name in one | other
        }
    if isinstance(one, list):
        return [add(first, second) for first, second in zip(one, other, strict=True)]
    return one + other
