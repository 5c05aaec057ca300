"""The seam between wires and the core: what each half offers the other.

A wire (HTTP/1, HTTP/2) gives the core a `Stream` per request; the core gives the wire an
`Exchange`. Two halves that hold each other, both synchronous: writing into a buffer never
blocks, so it is `def`; only waiting for room or for input is `async`, and that is inside `core`.

Invariants:
- A wire never waits for an application. It feeds what it has; credit goes back through `pull`.
- `Stream.writable` is a level, `Exchange.resume()` the edge when it rises.
- After `end`, `abort` or `lost` the two halves have let go of each other: an exchange holds
  `CLOSED` from then on, so that a late `receive()` of request 1 cannot credit request 2.
"""

import asyncio
from dataclasses import dataclass
from typing import Any, Final, Protocol

from .asgi import Fields, Scope


@dataclass(slots=True)
class Head:
    """A final response head, already checked: a status of 200 or more (or 101) and lower-case fields.

    Attributes:
        measured: Whether the fields say the length of the content.
        close: Whether the application asked for the connection to be closed; only HTTP/1 listens.
        repeated: Whether it is sent again and again, and so never changed.
        text: What HTTP/1 makes of a repeated one, once it has been sent.
    """

    status: int
    fields: Fields
    measured: bool = False
    close: bool = False
    repeated: bool = False
    text: bytes = b""


NO_HEAD: Final = Head(0, [])
"""Of a request whose client left before there was an answer."""


class Stream(Protocol):
    """What a wire offers to one exchange."""

    def new_extensions(self) -> dict[str, dict[str, Any]]:
        """Return the ASGI extensions that work on this very stream, for its scope to keep and to change."""

    @property
    def writable(self) -> bool:
        """Whether less than the high mark is waiting to be sent."""

    @property
    def zero_copy(self) -> bool:
        """Whether `send_file` works here; elsewhere files are read and sent like any body."""

    @property
    def id(self) -> int:
        """The HTTP/2 stream identifier; 0 on HTTP/1, which has none."""

    def send(self, head: Head | None, body: bytes, end: bool) -> None:
        """Send a part of the response; the head goes out with the first body, `end` with the last.

        A head without content-length and without `end` is framed as the wire can: chunked on
        HTTP/1.1, by closing on HTTP/1.0, by END_STREAM on HTTP/2.
        """

    def send_informational(self, status: int, fields: Fields) -> None:
        """Send a 1xx head (RFC 9110, 15.2); nothing to a client that would not understand it."""

    def send_trailers(self, fields: Fields) -> None:
        """Send the trailer section, which ends the response (RFC 9110, 6.5)."""

    async def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Let the kernel send bytes of an open file; only where `zero_copy`.

        Args:
            descriptor: An open file descriptor. It stays the caller's.
            offset: Where in the file to begin, in bytes.
            count: How many bytes to send at the most.

        Returns:
            How many bytes were sent: fewer than `count` at the end of the file.

        Raises:
            Disconnected: The peer left meanwhile.
        """

    def push(self, path: bytes, fields: Fields) -> None:
        """Promise a response to a GET of `path` (RFC 9113, 8.4) and start the application for it."""

    def pull(self, taken: int) -> None:
        """Say that the application took `taken` bytes; 0 says that it is about to wait for more."""

    def refuse(self) -> bool:
        """Tell the client that nobody has looked at its request, so that it may send it again by itself.

        Returns:
            False where the protocol has no such word; then nothing was said.
        """

    def abort(self) -> None:
        """Cut the response so that no client can take it for complete."""


class Exchange(Protocol):
    """What the core offers to a wire for one request."""

    scope: Scope

    def start(self) -> None:
        """Run the application, when what has arrived so far has been fed."""

    def feed(self, data: bytes) -> None:
        """Take a part of the request content."""

    def feed_end(self) -> None:
        """Take the end of the request content."""

    def feed_eof(self) -> None:
        """Learn that the peer has closed its sending side: it may still read an answer."""

    def lost(self, status: int = 0, length: int = 0) -> None:
        """Learn that the stream is gone: everything that waits wakes up.

        Args:
            status: Of the answer that the wire has given in the application's place; 0 without one.
            length: Of its content, in bytes.
        """

    @property
    def waiting(self) -> bool:
        """Whether the application waits for content that has yet to come."""

    def resume(self) -> None:
        """Learn that the stream is writable again."""

    def shutdown(self) -> None:
        """Learn that the server is shutting down: say goodbye where the protocol has a word for it."""


class Connection(Protocol):
    """What every wire offers to the server."""

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""

    def shutdown(self) -> None:
        """Take no more requests; close as soon as those under way have ended."""

    def retire(self) -> None:
        """The same in favour of another worker, with time: answer what the client may have sent already."""

    def terminate(self) -> None:
        """Close at once, whatever is under way."""


class ClosedStream:
    """What an exchange holds when its stream has ended: accepts everything, does nothing."""

    writable: Final = True
    zero_copy: Final = False
    id: Final = 0

    def new_extensions(self) -> dict[str, dict[str, Any]]:
        """Offer nothing."""
        return {}

    def send(self, head: Head | None, body: bytes, end: bool) -> None:
        """Do nothing."""

    def send_informational(self, status: int, fields: Fields) -> None:
        """Do nothing."""

    def send_trailers(self, fields: Fields) -> None:
        """Do nothing."""

    async def send_file(self, descriptor: int, offset: int, count: int) -> int:
        """Do nothing."""
        return 0

    def push(self, path: bytes, fields: Fields) -> None:
        """Do nothing."""

    def pull(self, taken: int) -> None:
        """Do nothing."""

    def refuse(self) -> bool:
        """Do nothing."""
        return True

    def abort(self) -> None:
        """Do nothing."""


CLOSED: Final[Stream] = ClosedStream()


class Waiters:
    """Those who wait for one direction of one exchange: futures made on demand.

    Each waiter has a future of its own, so that cancelling one leaves its neighbour waiting
    (an application may receive in one task while it sends in another).
    """

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: tuple[asyncio.Future[None], ...] = ()  # nearly always none or one; a list takes more

    def wait(self) -> asyncio.Future[None]:
        """Return what ends with the next `wake()`, to be awaited at once."""
        future = asyncio.get_running_loop().create_future()
        if self._futures:  # of those, some may have been cancelled
            self._futures = (*(each for each in self._futures if not each.done()), future)
        else:
            self._futures = (future,)
        return future

    @property
    def waiting(self) -> bool:
        """Whether somebody waits who has not been woken."""
        return any(not future.done() for future in self._futures)

    def wake(self) -> None:
        """Wake everybody who waits now."""
        futures, self._futures = self._futures, ()
        for future in futures:
            if not future.done():
                future.set_result(None)
