"""The client's side of HTTP, the same over every version: a connection, its exchanges, their heads.

Everything is pulled: bytes are read from the connection only inside an await of the test that
needs them, so a test that does not read is a client that does not read. Several tasks may wait
on one connection; one of them reads for all.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from .waiting import within
from .wire import Wire

Fields: TypeAlias = list[tuple[bytes, bytes]]


class ExchangeCut(ConnectionError):  # noqa: N818 - it says what happened
    """The exchange ended before what the test asked for."""


@dataclass(frozen=True)
class Head:
    """The head of a response: names in lower case, pseudo-fields removed."""

    status: int
    fields: Fields
    http_version: str

    def field(self, name: str) -> bytes | None:
        """Return the value of the only field of this name, or None; more than one is an error."""
        values = self.fields_named(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times: {values}"
        return values[0] if values else None

    def fields_named(self, name: str) -> list[bytes]:
        """Return the values of all fields of this name, in order."""
        return [value for known, value in self.fields if known == name.encode()]


@dataclass(frozen=True)
class Response(Head):
    """A whole response.

    Attributes:
        body: What arrived of the body.
        trailers: The trailer fields.
        complete: Whether it ended properly; False when it was cut or reset.
        informational: The 1xx heads before it.
    """

    body: bytes = b""
    trailers: Fields = field(default_factory=list)
    complete: bool = True
    informational: list[Head] = field(default_factory=list)


class Client(ABC):
    """One connection.

    Attributes:
        wire: The bytes below; `wire.ending` says how the server ended the connection.
    """

    def __init__(self, wire: Wire, authority: bytes) -> None:
        self.wire = wire
        self.authority = authority
        self._reading = asyncio.Lock()

    @property
    def ended(self) -> bool:
        """Whether nothing more can come, as far as has been read."""
        return self.wire.ending is not None or self.wire.closed

    @abstractmethod
    async def request(
        self,
        method: str,
        target: str,
        fields: Sequence[tuple[bytes, bytes]] = (),
        content: bytes | None = None,
        *,
        end: bool = True,
    ) -> "ClientExchange":
        """Send a request.

        Host or `:authority` is added unless `fields` has a `host`. A body whose framing `fields` do
        not say gets a content-length if it ends here; otherwise HTTP/1.1 sends it chunked.

        Args:
            method: In upper case.
            target: Path and query.
            fields: Names in lower case.
            content: The body, or the beginning of it.
            end: Whether this is the whole request; else go on with `send` and `send_end`.
        """

    async def send_raw(self, data: bytes) -> None:
        """Write bytes that no library would let pass."""
        await self.wire.write(data)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Read from the connection until `condition` holds or the connection has ended.

        Args:
            condition: Looked at again after each read.
            what: Named in the failure when nothing comes.
        """
        while not (condition() or self.ended):
            async with self._reading:
                if condition() or self.ended:
                    return
                async with within(f"{what} ({self})"):
                    data = await self.wire.read()
                await self._digest(data)

    async def wait_closed(self) -> None:
        """Read until the server has closed the connection; what arrives is kept."""
        await self.until(lambda: False, "the server to close the connection")

    def close(self) -> None:
        """Close the connection politely."""
        self.wire.close()

    def abandon(self) -> None:
        """Leave without a word: the server gets a TCP reset."""
        self.wire.reset()

    @abstractmethod
    async def _digest(self, data: bytes) -> None:
        """Take what was read; b"" when the connection has ended."""


class ClientExchange(ABC):
    """One request and its response.

    Attributes:
        informational: The 1xx heads so far.
        trailers: The trailer fields, once the response is complete.
        complete: Whether the response has ended properly.
        abandoned: Whether this client has left it.
        reset_code: The error code of the server's RST_STREAM; None without one and on HTTP/1.1.
    """

    def __init__(self, client: Client) -> None:
        self.informational: list[Head] = []
        self.trailers: Fields = []
        self.complete = False
        self.abandoned = False
        self.reset_code: int | None = None
        self._client = client
        self._head: Head | None = None
        self._chunks: deque[bytes] = deque()

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self.complete or self.abandoned or self.reset_code is not None or self._client.ended

    @property
    def cut(self) -> bool:
        """Whether it has ended improperly: connection closed too early, stream reset, or abandoned."""
        return self.ended and not self.complete

    @abstractmethod
    async def send(self, data: bytes, *, end: bool = False) -> None:
        """Send a piece of the body; waits while the server does not take it.

        Raises:
            ConnectionError: The server takes no more.
        """

    @abstractmethod
    async def send_end(self, trailers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        """End the request, with trailer fields if given."""

    @abstractmethod
    async def abandon(self) -> None:
        """Leave: HTTP/1.1 resets the connection, HTTP/2 the stream (CANCEL)."""

    async def head(self) -> Head:
        """Wait for the head of the final response, or of a 101.

        Raises:
            ExchangeCut: It never came.
        """
        await self._client.until(lambda: self._head is not None or self.ended, "a response head")
        if self._head is None:
            raise ExchangeCut(f"no response: {self._ending}")
        return self._head

    async def next_informational(self) -> Head:
        """Wait for one more 1xx than there is now.

        Raises:
            ExchangeCut: The final head or the end came first.
        """
        seen = len(self.informational)
        await self._client.until(
            lambda: len(self.informational) > seen or self._head is not None or self.ended, "a 1xx head"
        )
        if len(self.informational) == seen:
            raise ExchangeCut(f"no 1xx head but {self._head or self._ending}")
        return self.informational[seen]

    async def read_chunk(self, at_most: int | None = None) -> bytes:
        """Read what has come of the body; b"" at its end, proper or not (see `complete`)."""
        await self._client.until(lambda: bool(self._chunks) or self.ended, "more of the response body")
        if not self._chunks:
            return b""
        chunk = self._chunks.popleft()
        if at_most is not None and len(chunk) > at_most:
            self._chunks.appendleft(chunk[at_most:])
            chunk = chunk[:at_most]
        await self._taken(len(chunk))
        return chunk

    async def read_exactly(self, count: int) -> bytes:
        """Read `count` bytes of the body, or what there is of them when it ends."""
        body = bytearray()
        while len(body) < count and (chunk := await self.read_chunk(count - len(body))):
            body += chunk
        return bytes(body)

    async def read(self) -> bytes:
        """Read the rest of the body, until it ends, properly or not (see `complete`)."""
        body = bytearray()
        while chunk := await self.read_chunk():
            body += chunk
        return bytes(body)

    async def response(self) -> Response:
        """Wait for the whole response.

        Raises:
            ExchangeCut: Not even its head came.
        """
        head = await self.head()
        body = await self.read()
        return Response(
            head.status,
            head.fields,
            head.http_version,
            body,
            self.trailers,
            self.complete,
            self.informational,
        )

    async def wait_closed(self) -> None:
        """Wait until the response has ended, properly or not; its body is dropped."""
        await self.read()

    @abstractmethod
    async def _taken(self, count: int) -> None:
        """Learn that the test took `count` bytes of the body."""

    @property
    def _ending(self) -> str:
        if self.reset_code is not None:
            return f"reset with code {self.reset_code}"
        if self._client.wire.ending is not None:
            return f"the connection was {self._client.wire.ending.value}"
        return "this client has closed the connection" if self._client.wire.closed else "still open"
