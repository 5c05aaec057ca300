"""What an HTTP/2 machine says to its connection, and what it can be told: the seam between the two.

There are two machines, chosen by `--engine`: `http2_fast_machine`, which is our own, and
`http2_machine`, which is h2's and the judge of the other (tests/protocols/test_http2_machines.py).
A frame of the client is one event at the most, and DATA frames in a row may be one together; an event
that ends a request says so itself.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Protocol, TypeAlias

from ..core.asgi import Fields
from ..core.exchange import Head

_STATUS: Final = {int(status): (b":status", b"%d" % status) for status in HTTPStatus}


def section_of(head: Head) -> Fields:
    """Return the field section of the head of a response (RFC 9113, 8.3.2)."""
    return [_STATUS.get(head.status) or (b":status", b"%d" % head.status), *head.fields]


@dataclass(slots=True)
class RequestReceived:
    """A client has opened a stream.

    Attributes:
        stream_id: The stream.
        fields: The head of the request, pseudo-header fields first.
        size: Of the field list as RFC 9113 (6.5.2) counts it, in bytes.
        ended: Whether there is no content, and no trailer section.
    """

    stream_id: int
    fields: Fields
    size: int
    ended: bool


@dataclass(slots=True)
class DataReceived:
    """Content of a request. `size`: what it takes of the windows, padding included, in bytes."""

    stream_id: int
    data: bytes
    size: int
    ended: bool


@dataclass(slots=True)
class TrailersReceived:
    """The trailer section of a request, which ends it."""

    stream_id: int
    fields: Fields


@dataclass(slots=True)
class StreamReset:
    """The client has reset a stream, or a fault of its own has made the machine reset it."""

    stream_id: int
    code: int


@dataclass(slots=True)
class WindowUpdated:
    """The client takes more: on a stream, or with 0 on all of them together."""

    stream_id: int


@dataclass(slots=True)
class SettingsChanged:
    """The client has said how it is to be treated, which may change the window of every stream."""


@dataclass(slots=True)
class PriorityChanged:
    """A PRIORITY_UPDATE frame: a stream and its new priority field value (RFC 9218, 7.1)."""

    stream_id: int
    value: bytes


@dataclass(slots=True)
class GoawayReceived:
    """A GOAWAY frame: the client is about to leave, and accepts no more pushes (RFC 9113, 6.8)."""

    code: int


Event: TypeAlias = (
    RequestReceived
    | DataReceived
    | TrailersReceived
    | StreamReset
    | WindowUpdated
    | SettingsChanged
    | PriorityChanged
    | GoawayReceived
)


class Machine(Protocol):
    """The state of one HTTP/2 connection: bytes in, events out; calls in, bytes out. No I/O.

    Invariant: once `receive` has raised, it is good for nothing but `say_goaway`.

    Attributes:
        outbound_flow_control_window: How much content the client takes on all streams together, in bytes.
        max_outbound_frame_size: How much of it in one frame, in bytes.
        behind: Whether frames have been received that may be left for another turn.
    """

    behind: bool
    outbound_flow_control_window: int
    max_outbound_frame_size: int

    # ------------------------------------------------------------------ the client

    def receive(self, data: bytes, /) -> Iterable[Event]:
        """Take bytes of the client; yield the events of as many frames as one turn has, one by one.

        Where `behind` then says so, there may be more: `receive(b"")`.

        Raises:
            ConnectionFault: The connection must end with GOAWAY and this code.
        """

    def is_idle(self, stream_id: int, /) -> bool:
        """Whether a stream has not been opened yet, nor skipped (RFC 9113, 5.1.1)."""

    @property
    def unfinished_head(self) -> int | None:
        """The stream whose field block has begun and not ended; None if there is none."""

    @property
    def push_limit(self) -> int:
        """How many promised streams the client accepts at a time."""

    @property
    def inbound_flow_control_window(self) -> int:
        """How much content the client may send on all streams together, in bytes."""

    def local_flow_control_window(self, stream_id: int, /) -> int:
        """Return how much content the client takes on a stream, in bytes; below 0 if we owe it."""

    # ------------------------------------------------------------------ our side

    def send_headers(self, stream_id: int, fields: Fields, /, end_stream: bool = False) -> None:
        """Send a field section: an interim or final head, or trailers."""

    def send_data(self, stream_id: int, data: bytes | memoryview, /, end_stream: bool = False) -> None:
        """Send content in as many DATA frames as it takes, which the windows have room for."""

    def send_message(self, stream_id: int, content: bytes, /) -> bool:
        """Send content that leaves something of the windows; tell whether it does, for else nothing was sent."""

    def send_whole(self, stream_id: int, head: Head, content: bytes, /) -> int:
        """Send a response whose content fits one DATA frame, and so end the stream on our side.

        Returns:
            What is left of its window, in bytes; -1 if there is no room for it, and nothing was sent.
        """

    def get_next_available_stream_id(self) -> int:
        """Return the number of the next stream that we promise."""

    def push_stream(self, stream_id: int, promised_id: int, fields: Fields, /) -> None:
        """Promise a response on a stream of ours, while the client's stream is open (RFC 9113, 8.4)."""

    def reset_stream(self, stream_id: int, code: int, /) -> None:
        """Send RST_STREAM, unless both sides have ended the stream: then there is nothing to reset."""

    def acknowledge_received_data(self, size: int, stream_id: int, /) -> None:
        """Give window back for bytes that have been taken, as soon as it is worth a frame."""

    def say_leaving(self) -> None:
        """Ask for no more streams; those that were opened meanwhile are still taken (RFC 9113, 6.8)."""

    def say_goaway(self, code: int, reason: str = "", /) -> None:
        """Announce the end of the connection; streams up to the newest one may finish (RFC 9113, 6.8)."""

    @property
    def wants_to_send(self) -> bool:
        """Whether `data_to_send` has anything."""

    def data_to_send(self) -> bytes:
        """Take what is to be sent."""
