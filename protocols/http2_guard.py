"""Http2Guard: what a client may do that is of no use to anybody, and how often.

A reset costs a client 13 bytes and the server an application; a PING or an empty frame costs an
answer, or at least a look. Each is legitimate, thousands of them are an attack. So there are two
budgets per connection, which refill (`core/limits.py`).

Invariant: whoever answers what it gets, and no more, spends nothing. A window update or two and a
measuring PING follow each message of ours (gRPC does all of that), so they are earned by requests and
by DATA that we sent, and what is earned is spent first. DATA that was cut by its window earns by its
bytes alone: a client that opens the window byte by byte gets no further for it.
"""

from typing import Final, Protocol

from h2.errors import ErrorCodes

from ..core.asgi import Address
from ..core.errors import ConnectionFault
from ..core.limits import Budget
from ..core.worker import Worker

REPLIES: Final = 3.0
"""What one request, or one DATA frame, is answered with: an update of both windows, and a PING."""

# Of a large frame the client may take a piece at a time, and give back both windows for each KiB.
_BYTES_PER_REPLY: Final = 512
SMALL: Final = int(REPLIES * _BYTES_PER_REPLY)
"""A DATA frame below this earns as much as any, unless it was cut by its window; in bytes."""

# A client that lags behind gives its window back message by message; one that dribbles, byte by byte.
_BYTES_PER_REPLY_IF_CUT: Final = 16
# As many replies as may be under way: what a window full of small messages is acknowledged with.
_MOST_REPLIES: Final = 65_536.0


class Http2Guard:
    """What one client has left to waste, and what is kept of the limits that it hit.

    Attributes:
        earned: How many replies it may still give to what it got; `REPLIES` more for each request, and as
            `count_data` says for what we send.
    """

    __slots__ = ("_client", "_frames", "_limits", "_logged", "_resets", "earned")

    def __init__(self, worker: Worker, client: Address | None) -> None:
        config, clock = worker.config, worker.clock
        self._resets = Budget(clock, config.max_resets)
        self._frames = Budget(clock, config.max_control_frames)
        self.earned = 0.0
        self._limits = worker.limits
        self._client = client
        self._logged = False

    def log(self, setting: str, what: str) -> None:
        """Count that a limit was hit; the first one of a connection is worth a line in the log.

        Args:
            setting: The name of the limit, in Config.
            what: What the client did, in words of ours.
        """
        if self._logged:
            self.count(setting)
        else:
            self._logged = True
            self._limits.hit(setting, self._client, what)

    def count(self, setting: str) -> None:
        """Count that a limit was hit, where that is no fault."""
        self._limits.hits[setting] += 1

    def count_data(self, size: int, *, cut: bool) -> None:
        """Note that the client got a DATA frame of ours.

        Args:
            size: Its content, in bytes.
            cut: Whether its window did not let us send more.
        """
        replies = REPLIES if size < SMALL else size / _BYTES_PER_REPLY
        if cut:
            replies = min(replies, size / _BYTES_PER_REPLY_IF_CUT)
        self.earned += replies

    def count_useless(self, weight: int = 1) -> None:
        """Count a frame that is of no use to an application.

        Args:
            weight: How many simple frames it is worth.

        Raises:
            ConnectionFault: There were too many (CVE-2019-9512, -9515 and -9518, for example).
        """
        self.earned = min(self.earned, _MOST_REPLIES)
        if self.earned >= weight:
            self.earned -= weight
        elif not self._frames.spend(weight):
            raise ConnectionFault(
                ErrorCodes.ENHANCE_YOUR_CALM, "too many control frames", limit="max_control_frames"
            )

    def count_reset(self) -> None:
        """Count a stream that the client has reset, or made us reset, before it was answered.

        Raises:
            ConnectionFault: There were too many (CVE-2023-44487, CVE-2025-8671).
        """
        if not self._resets.spend():
            raise ConnectionFault(
                ErrorCodes.ENHANCE_YOUR_CALM, "too many streams were reset", limit="max_resets"
            )


class Runnable(Protocol):
    """Something whose application may be running."""

    running: bool


class Slots:
    """How many requests a client may have under way: those that are open, and those it has left behind."""

    __slots__ = ("_left_behind", "_most")

    def __init__(self, most: int) -> None:
        self._most = most
        self._left_behind: list[Runnable] = []

    def keep(self, exchange: Runnable) -> None:
        """Keep the slot of a request that has lost its stream, until its application has ended."""
        if exchange.running:
            self._left_behind.append(exchange)

    def free(self, opened: int) -> bool:
        """Tell whether there is a slot for another request.

        Args:
            opened: How many are open.
        """
        room = self._most - opened
        if len(self._left_behind) >= room:  # only now does it matter who has ended
            self._left_behind = [exchange for exchange in self._left_behind if exchange.running]
        return len(self._left_behind) < room
