"""Schedule: which HTTP/2 stream sends next. Pure; knows no bytes and no windows.

RFC 9218 urgency comes first: a level is served only while no more urgent one has anything to
send. Within a level, streams take turns, one frame each. Only those whose client said so without
`i` are served one after the other, and that line takes turns as if it were one stream: a client
that says nothing gets fairness, for RFC 9218 (10) leaves that to the server.
"""

from bisect import insort
from collections import deque
from typing import Final, Generic, NamedTuple, Protocol, TypeVar


class Priority(NamedTuple):
    """What a client said about the priority of a response (RFC 9218, 4)."""

    urgency: int = 3
    incremental: bool = True


DEFAULT: Final = Priority()


def parse_priority(value: bytes) -> Priority:
    """Read a priority field (RFC 9218, 4); members that make no sense are ignored, as it says."""
    urgency, incremental = DEFAULT.urgency, False
    for member in value.split(b","):
        key, _, item = member.strip(b" \t").partition(b"=")
        item = item.partition(b";")[0]
        if key == b"u" and len(item) == 1 and item in b"01234567":
            urgency = int(item)
        elif key.partition(b";")[0] == b"i" and item in (b"", b"?1", b"?0"):
            incremental = item != b"?0"
    return Priority(urgency, incremental)


class EarlyPriorities:
    """What a client said about streams that it has yet to open (RFC 9218, 7).

    Attributes:
        kept: The priority of each.
    """

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept: dict[int, Priority] = {}

    def keep(self, stream_id: int, priority: Priority) -> None:
        """Keep the latest that was said about a stream."""
        self.kept[stream_id] = priority

    def take(self, stream_id: int) -> Priority | None:
        """Return what was said about a stream that opens; forget it, and the streams skipped before it."""
        priority = self.kept.get(stream_id)
        self.kept = {key: value for key, value in self.kept.items() if key > stream_id}
        return priority


class Sender(Protocol):
    """Something that waits for its turn."""

    @property
    def id(self) -> int:
        """Its number: those that are served in line are served in this order."""

    priority: Priority


S = TypeVar("S", bound=Sender)


class _Level(Generic[S]):
    """The streams of one urgency; None in the ring is the turn of the line."""

    __slots__ = ("line", "ring")

    def __init__(self) -> None:
        self.ring: deque[S | None] = deque()
        self.line: list[S] = []


class Schedule(Generic[S]):
    """The streams that could send now, and whose turn it is.

    Attributes:
        members: Who they are, and the priority of each.
    """

    __slots__ = ("_levels", "members")

    def __init__(self) -> None:
        self._levels: list[_Level[S]] = [_Level() for _ in range(8)]
        self.members: dict[S, Priority] = {}

    def add(self, stream: S) -> None:
        """Let a stream take part, with the priority it has now; harmless if it does already."""
        if stream in self.members:
            return
        priority = self.members[stream] = stream.priority
        level = self._levels[priority.urgency]
        if priority.incremental:
            level.ring.append(stream)
            return
        insort(level.line, stream, key=lambda waiting: waiting.id)
        if len(level.line) == 1:
            level.ring.append(None)

    def discard(self, stream: S) -> None:
        """Let a stream sit out; harmless if it does already."""
        priority = self.members.pop(stream, None)
        if priority is None:
            return
        level = self._levels[priority.urgency]
        if priority.incremental:
            level.ring.remove(stream)
            return
        level.line.remove(stream)
        if not level.line:
            level.ring.remove(None)

    def next(self) -> S:
        """Return the stream whose turn it is; it stays in the schedule, behind the others.

        Raises:
            LookupError: Nobody takes part.
        """
        for level in self._levels:
            if level.ring:
                turn = level.ring[0]
                level.ring.rotate(-1)
                return level.line[0] if turn is None else turn
        raise LookupError("no stream takes part")
