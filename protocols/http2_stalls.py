"""Http2Stalls: who lets the server wait for too long; looked at once per tick, while anybody does.

Nothing here is made per request or per stream: whoever notices that something waits calls `begin`,
and from then on every stream of the connection is looked at, until nothing waits any more.

Invariants:
- What waits for us is never late: an application that does not read, a window that we did not give, a
  transport so full that we may not read either.
- A few bytes now and then are no progress. What moves has to move at a least rate.
"""

from collections.abc import Hashable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from h2.errors import ErrorCodes

from ..core.clock import Timed
from ..core.errors import ConnectionFault, StreamFault
from ..core.limits import LEAST_RATE
from ..core.worker import Worker
from .http2_sender import Http2Sender
from .http2_stream import Http2Stream

# A connection whose window is smaller than a frame is held back by us: by siblings that nobody reads.
_LEAST_WINDOW: Final = 16_384

Key = TypeVar("Key", bound=Hashable)


class Laggards(Generic[Key]):
    """Holds those who wait against a least rate, averaged over a time. Pure: the time is handed in."""

    __slots__ = ("_least", "_marks", "_seconds")

    def __init__(self, seconds: float, least: float = 1) -> None:
        """Begin with nobody.

        Args:
            seconds: Over how long a time it is averaged.
            least: How much has to move in this time; of what never moves by degrees, anything.
        """
        self._seconds = seconds
        self._least = least
        self._marks: dict[Key, tuple[float, int]] = {}

    def late(self, now: float, waiting: Mapping[Key, int]) -> list[Key]:
        """Return those who were too slow; who is not among those waiting begins anew the next time.

        Args:
            now: The time, in seconds.
            waiting: Who waits now, each with how much has moved so far.
        """
        marks: dict[Key, tuple[float, int]] = {}
        late = []
        for key, moved in waiting.items():
            since, before = self._marks.get(key, (now, moved))
            if now - since >= self._seconds:
                if moved - before < self._least:
                    late.append(key)
                    continue
                since, before = now, moved
            marks[key] = since, before
        self._marks = marks
        return late


class Patient(Protocol):
    """What becomes of those who are late: the connection knows."""

    @property
    def taken(self) -> int:
        """How many bytes the transport has taken off our hands so far."""

    def give_up(self, stream: Http2Stream, fault: StreamFault) -> None:
        """End a request: with the HTTP status of the fault, or a reset where the response has begun."""

    def stop_upload(self, stream_id: int) -> None:
        """Stop a client that goes on sending after it was answered."""

    def fail(self, fault: ConnectionFault) -> None:
        """End the connection with GOAWAY."""

    def cut(self, fault: ConnectionFault) -> None:
        """End the connection without a word."""


class Http2Stalls:
    """Looks after one connection, as long as something waits for its client.

    Attributes:
        deadline: Has always passed: every tick is one.
    """

    __slots__ = (
        "_answered",
        "_clock",
        "_connection",
        "_heads",
        "_lingering",
        "_machine",
        "_sender",
        "_streams",
        "_transport",
        "_uploads",
        "_window",
        "_windows",
        "deadline",
    )

    def __init__(
        self,
        worker: Worker,
        connection: Patient,
        sender: Http2Sender,
        streams: Mapping[int, Http2Stream],
        answered: Mapping[int, int],
    ) -> None:
        """Look at nothing yet.

        Args:
            worker: The connection's.
            connection: Who acts.
            sender: The connection's.
            streams: Those of the connection.
            answered: The streams that are answered while the client still sends.
        """
        config = worker.config
        self._clock = worker.clock
        self._connection = connection
        self._machine = sender.machine
        self._sender = sender
        self._streams = streams
        self._answered = answered
        self._heads: Laggards[int] = Laggards(config.head_timeout)
        self._uploads: Laggards[Http2Stream] = Laggards(
            config.body_timeout, config.body_timeout * config.body_min_rate
        )
        self._lingering: Laggards[int] = Laggards(config.linger_timeout)
        least = config.write_timeout * LEAST_RATE
        self._windows: Laggards[Http2Stream] = Laggards(config.write_timeout, least)
        self._window: Laggards[None] = Laggards(config.write_timeout, least)
        self._transport: Laggards[None] = Laggards(config.write_timeout, least)
        self.deadline = 0.0

    def begin(self) -> None:
        """Look from the next tick on; harmless if that is so already."""
        self._clock.watch(self)

    def end(self) -> None:
        """Look no more: the connection is closed."""
        self._clock.forget(self)

    def expire(self) -> None:
        """Look at everything that waits, and act on what is late."""
        now = self._clock.now()
        waits = [self._look_at_transport(now), self._look_at_responses(now), self._look_at_requests(now)]
        if not any(waits):
            self.end()

    def _look_at_requests(self, now: float) -> bool:
        unfinished = self._machine.unfinished_head
        heads = {} if unfinished is None else {unfinished: 0}
        uploads = {stream: stream.received for stream in self._streams.values() if stream.awaits_content}
        held_back = self._sender.full or self._machine.inbound_flow_control_window < _LEAST_WINDOW
        answered = dict.fromkeys(self._answered, 0)
        for stream in self._uploads.late(now, {} if held_back else uploads):
            reason = "the content comes too slowly"
            self._connection.give_up(
                stream, StreamFault(HTTPStatus.REQUEST_TIMEOUT, reason, limit="body_min_rate")
            )
        for stream_id in self._lingering.late(now, answered):
            self._connection.stop_upload(stream_id)
        if self._heads.late(now, heads):
            self._connection.fail(_calm("a field block takes too long", "head_timeout"))
        return bool(heads or uploads or answered)

    def _look_at_responses(self, now: float) -> bool:
        blocked = self._blocked()
        for stream in self._windows.late(now, blocked):
            reason = "a response gets no window"
            self._connection.give_up(stream, StreamFault(ErrorCodes.CANCEL, reason, limit="write_timeout"))
        # Whoever opens now one window and now another lets none of them be late, but nothing moves.
        waits = not self._sender.full and (self._sender.waits or bool(self._blocked()))
        if self._window.late(now, {None: self._sender.sent} if waits else {}):
            self._connection.fail(_calm("the client gives no window", "write_timeout"))
        return bool(blocked) or waits

    def _blocked(self) -> dict[Http2Stream, int]:
        return {s: s.sent for s in self._streams.values() if s.blocked and s.pending_bytes}

    def _look_at_transport(self, now: float) -> bool:
        full = self._sender.full
        if self._transport.late(now, {None: self._connection.taken} if full else {}):
            self._connection.cut(_calm("the client reads nothing", "write_timeout"))
        return full


def _calm(reason: str, limit: str) -> ConnectionFault:
    return ConnectionFault(ErrorCodes.ENHANCE_YOUR_CALM, reason, limit=limit)


if TYPE_CHECKING:
    _: type[Timed] = Http2Stalls
