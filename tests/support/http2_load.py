"""Load over HTTP/2, by a client that does what RFC 9113 wants when a connection ends.

At a GOAWAY new requests go over another connection, the streams up to the last one that it names are waited for,
and those above are sent again (6.8). So is what was refused (REFUSED_STREAM, 8.7). Whatever else ends without a
complete answer is lost. h2load gives up at the first GOAWAY.
"""

import asyncio
import ssl
import struct
from collections import Counter
from collections.abc import Callable
from typing import Final, Self, cast
from urllib.parse import urlsplit

import hpack

from .frames import ACK, END_HEADERS, END_STREAM, PREFACE
from .waiting import until, within

PATIENCE_SECONDS = 40.0
"""What a request may take, and with it the end of the load."""

_HEADERS, _SETTINGS, _WINDOW_UPDATE = 0x1, 0x4, 0x8
_ENABLE_PUSH, _INITIAL_WINDOW_SIZE = 0x2, 0x4
_REFUSED_STREAM = 0x7
_LAST_STREAM_ID: Final = 2**31 - 1
_MUCH_CREDIT: Final = 2**30


class Http2Load:
    """GET requests without pause while a block of code runs; at its end those under way are waited for.

    Attributes:
        answered: Complete answers with status 200, by what they said.
        again: Requests that were sent again because they had not been processed, by how that was said.
        lost: Requests that were neither answered nor may be sent again, by what became of them.
        connections: How many there are at once.
        streams: How many requests each of them has under way.
        connected: How many connections there were in all.
    """

    def __init__(self, url: str, tls: ssl.SSLContext, *, connections: int = 10, streams: int = 10) -> None:
        """Prepare to load.

        Args:
            url: Of what is asked for.
            tls: Whom to trust.
            connections: See above.
            streams: See above.
        """
        self.answered: Counter[str] = Counter()
        self.again: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.connected = 0
        self._begun = 0
        self._url = urlsplit(url)
        self._tls = tls
        self._tls.set_alpn_protocols(["h2"])
        self.connections = connections
        self.streams = streams
        self._places: list[_Connection] = []
        self._first: list[_Connection] = []
        self._turns = [asyncio.Lock() for _ in range(connections)]
        self._users: list[asyncio.Task[None]] = []
        self._over = False

    async def __aenter__(self) -> Self:
        self._places = [await self._connect() for _ in range(self.connections)]
        self._first = list(self._places)
        users = [place for place in range(self.connections) for _ in range(self.streams)]
        self._users = [asyncio.create_task(self._use(place)) for place in users]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        async with within("the requests under way", PATIENCE_SECONDS):
            await asyncio.gather(*self._users)
        for connection in self._places:
            await connection.close()
        assert self._begun == self.answered.total() + self.lost.total(), "every request is accounted for"

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something while the load goes on."""

        def reached() -> object:
            assert not any(user.done() for user in self._users)
            return condition()

        await until(reached, "the load over HTTP/2", PATIENCE_SECONDS)

    async def more_is_answered(self) -> None:
        """Wait for some more answers on each connection."""
        enough = self.answered.total() + 3 * len(self._users)
        await self.until(lambda: self.answered.total() >= enough)

    async def everybody_has_moved(self) -> None:
        """Wait until no connection is left of those at the start."""
        await self.until(lambda: not any(connection.usable for connection in self._first))

    async def _use(self, place: int) -> None:
        """Be one user of a connection, and of those that take its place."""
        while not self._over:
            self._begun += 1
            try:
                self.answered[await self._answer(place)] += 1
            except _LostError as error:
                self.lost[str(error)] += 1

    async def _answer(self, place: int) -> str:
        while True:
            async with self._turns[place]:
                if not self._places[place].usable:
                    self._places[place] = await self._connect()
            try:
                return await self._places[place].get()
            except _NotProcessedError as error:
                self.again[str(error)] += 1

    async def _connect(self) -> "_Connection":
        loop = asyncio.get_running_loop()
        host, port = self._url.hostname or "localhost", self._url.port or 443
        async with within("a connection", PATIENCE_SECONDS):  # one that is refused ends the load
            _, connection = await loop.create_connection(
                lambda: _Connection(self._url.netloc), host, port, ssl=self._tls
            )
        self.connected += 1
        return connection


class _LostError(Exception):
    """A request will not be answered, and may have been processed."""


class _NotProcessedError(Exception):
    """A request will not be answered, and was not processed: it may be sent again."""


class _Connection(asyncio.Protocol):
    """One connection.

    Attributes:
        usable: Whether new requests may be sent.
    """

    def __init__(self, authority: str) -> None:
        self.usable = False
        self._transport: asyncio.Transport
        self._ended = asyncio.get_running_loop().create_future()
        self._under_way: dict[int, _Stream] = {}
        self._next_id = 1
        self._last_id = _LAST_STREAM_ID
        self._received = bytearray()
        self._decoder = hpack.Decoder()
        self._latest = "nobody knows whom"
        encoder = hpack.Encoder()
        encoder.header_table_size = 0  # so that the same request has the same bytes every time
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", "/")]
        self._head = encoder.encode(fields)

    async def get(self) -> str:
        """Make a request and return what the answer says.

        Raises:
            _NotProcessedError: It was not processed.
            _LostError: Nobody knows what became of it.
        """
        stream_id, self._next_id = self._next_id, self._next_id + 2
        stream = self._under_way[stream_id] = _Stream()
        self._send(_HEADERS, END_HEADERS | END_STREAM, stream_id, self._head)
        return await stream.answer

    async def close(self) -> None:
        """Close the connection and wait until that is so."""
        self._transport.close()
        await self._ended

    # ------------------------------------------------------------------ what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; RFC 9113, 3.4."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not of this class
        self.usable = True
        self._transport.write(PREFACE)
        self._send(_SETTINGS, 0, 0, struct.pack("!HLHL", _ENABLE_PUSH, 0, _INITIAL_WINDOW_SIZE, _MUCH_CREDIT))
        self._send(_WINDOW_UPDATE, 0, 0, struct.pack("!L", _MUCH_CREDIT))

    def data_received(self, data: bytes) -> None:
        """Take what has arrived, frame by frame."""
        received = self._received
        received += data
        while len(received) >= 9 and len(received) >= (end := 9 + int.from_bytes(received[:3])):
            kind, flags, stream_id = struct.unpack("!BBL", received[3:9])
            payload = bytes(received[9:end])
            del received[:end]
            self._take(kind, flags, stream_id, payload)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever is still waiting will not hear anything."""
        self.usable = False
        for stream_id in list(self._under_way):
            self._fail(stream_id, _LostError(f"the connection ended, that of {self._latest}"))
        self._ended.set_result(None)

    # ------------------------------------------------------------------ frames

    def _send(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        self._transport.write(
            len(payload).to_bytes(3) + struct.pack("!BBL", kind, flags, stream_id) + payload
        )

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        match kind:
            case 0x0 | 0x1:  # DATA, HEADERS
                self._take_answer(kind, flags, stream_id, payload)
            case 0x3:  # RST_STREAM
                code = int.from_bytes(payload)
                refused = code == _REFUSED_STREAM
                error = _NotProcessedError("REFUSED_STREAM") if refused else _LostError(f"reset with {code}")
                self._fail(stream_id, error)
            case 0x4 | 0x6 if not flags & ACK:  # SETTINGS, PING
                self._send(kind, ACK, 0, b"" if kind == _SETTINGS else payload)
            case 0x7:  # GOAWAY
                self._take_goaway(*struct.unpack_from("!LL", payload))

    def _take_answer(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        stream = self._under_way.get(stream_id) or _Stream()  # the decoder needs every field section
        if kind == _HEADERS:
            assert flags & END_HEADERS, "a server that needs CONTINUATION is unknown to this client"
            stream.status = str(next(iter(self._decoder.decode(payload)))[1])
        else:
            stream.body += payload
        if not flags & END_STREAM or stream_id not in self._under_way:
            return
        if stream.status == "200":
            self._latest = stream.body.decode()
            stream.answer.set_result(self._latest)
            self._forget(stream_id)
        else:
            self._fail(stream_id, _LostError(f"status {stream.status}"))

    def _take_goaway(self, last_id: int, code: int) -> None:
        self.usable = False
        assert last_id <= self._last_id, "a GOAWAY takes nothing back (6.8)"
        self._last_id = last_id
        for stream_id in [each for each in self._under_way if each > last_id]:
            self._fail(stream_id, _NotProcessedError("GOAWAY"))
        if code:
            for stream_id in list(self._under_way):
                self._fail(stream_id, _LostError(f"GOAWAY with {code}"))
        self._leave_if_done()

    def _fail(self, stream_id: int, error: Exception) -> None:
        if (stream := self._under_way.get(stream_id)) is not None:
            stream.answer.set_exception(error)
            self._forget(stream_id)

    def _forget(self, stream_id: int) -> None:
        del self._under_way[stream_id]
        self._leave_if_done()

    def _leave_if_done(self) -> None:
        if not self.usable and not self._under_way:
            self._transport.close()


class _Stream:
    """One request under way."""

    __slots__ = ("answer", "body", "status")

    def __init__(self) -> None:
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.status = ""
        self.body = b""
