"""Fuzzing HTTP/1: inputs are held as conversations, and what holds of all of them is checked.

Of any bytes, in any pieces, with any application, client and point in time:
- no exception escapes;
- no task, connection or deadline is left when the client has gone and time has passed;
- what the server says is a sequence of responses, at most one for each request and one refusal;
- the requests that the application sees whole are those that h11 reads from the same bytes.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import h11

from alphorn.core.asgi import Receive, Scope, Send
from support.http1_peer import Http1Peer
from support.waiting import turns

from .fuzzing import Fuzzer, kept, pieces_of
from .http1_corpus_run import CASES, SETTINGS

TOKENS = (
    *(b"\r\n", b"\n", b"\r", b"\x00", b" ", b"\t", b":", b";", b",", b'"', b"=", b"%", b"0", b"5", b"\xff"),
    *(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"POST", b"HEAD", b"HTTP/1.0", b"HTTP/1.1", b"Host: a\r\n"),
    *(b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n", b"chunked"),
    *(b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"TE: trailers\r\n", b" folded\r\n"),
    *(b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"Sec-WebSocket-Version: 13\r\n"),
    *(b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", b"\x81\x85abcd\x09\x07\x0f\x08\x0e"),
    *(
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nA: 1\r\n\r\n",
        b"5;a=b\r\n",
        b"ffffffffffffffff\r\n",
        b"a" * 5000,
    ),
)


class Sight(NamedTuple):
    """A request as the application saw it."""

    method: str
    target: bytes
    content: bytes


def seeds() -> list[bytes]:
    """All inputs to begin with; good ones several times, for most of the others end a conversation."""
    good = [case.raw for case in CASES if not case.closes]
    bad = [case.raw for case in CASES if case.closes and len(case.raw) < 4000]
    return kept("http1") * 20 + good * 5 + bad


# ---------------------------------------------------------------------- both ends


class Whims:
    """An application that does anything an application may do, by chance.

    Attributes:
        methods: Of all calls, in order.
        seen: The requests whose content it has read to the end.
        cancelled: Whether it was ever cancelled.
    """

    def __init__(self, chance: random.Random, *, diligent: bool) -> None:
        self.methods: list[str] = []
        self.seen: list[Sight] = []
        self._chance = chance
        self._diligent = diligent

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        target = scope["raw_path"] + query
        if scope["type"] == "websocket":
            self.methods.append("WEBSOCKET")
            self.seen.append(Sight("GET", target, b""))
            await self._talk(receive, send)
            return
        self.methods.append(scope["method"])
        content = bytearray()
        reads = 1000 if self._diligent else self._chance.choice((0, 1, 1000))
        for _ in range(reads):
            message = await receive()
            if message["type"] != "http.request":
                return
            content += message["body"]
            if not message["more_body"]:
                self.seen.append(Sight(scope["method"], target, bytes(content)))
                break
        whims = (self._answer, self._stream, self._trail, self._crash, self._crash_late, self._return)
        await (self._answer if self._diligent else self._chance.choice(whims))(send)

    async def _answer(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x" * self._chance.choice((0, 1, 100_000))})
        await turns(1)

    async def _stream(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self._chance.choice((200, 204, 304, 500))})
        for _ in range(self._chance.randint(0, 3)):
            await send({"type": "http.response.body", "body": b"x" * 40_000, "more_body": True})
            await turns(1)
        await send({"type": "http.response.body"})

    async def _trail(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"x"})
        await send({"type": "http.response.trailers", "headers": [(b"a", b"1")]})

    async def _crash(self, send: Send) -> None:
        raise Whim

    async def _crash_late(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise Whim

    async def _return(self, send: Send) -> None:
        """Say nothing."""

    async def _talk(self, receive: Receive, send: Send) -> None:
        await receive()
        if self._chance.random() < 0.3:
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message.get("text") or "bytes"})


class Whim(Exception):  # noqa: N818 - what an application may raise
    """A failure on purpose."""


def client_whims(peer: Http1Peer) -> Sequence[Callable[[], Any]]:
    """What a client may do between two pieces, or the server."""
    return (
        peer.stops_reading,
        peer.goes_on_reading,
        peer.half_closes,
        peer.leaves,
        lambda: peer.reads(10_000),
        lambda: peer.clock.advance(11),
        lambda: peer.clock.advance(100),
        peer.connection.shutdown,
    )


# ---------------------------------------------------------------------- what must hold


async def check(data: bytes, seed: int) -> None:
    """Hold one conversation.

    Args:
        data: What the client says.
        seed: Decides about everything else.

    Raises:
        AssertionError: Something does not hold that must.
    """
    escaped: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: escaped.append(context))
    tasks = asyncio.all_tasks()
    chance = random.Random(seed)
    diligent = chance.random() < 0.5
    app = Whims(chance, diligent=diligent)
    peer = Http1Peer(app, **SETTINGS)
    whims = client_whims(peer)
    for piece in pieces_of(chance, data):
        peer.sends(piece)
        if chance.random() < 0.3:
            await turns(1)
        if not diligent and chance.random() < 0.1:
            chance.choice(whims)()
    await peer.settle()
    peer.goes_on_reading()
    await peer.settle()
    said, ended = peer.received, peer.transport.ended
    await end(peer, chance)
    assert asyncio.all_tasks() == tasks
    assert not escaped, escaped
    check_responses(said, app.methods, ended=ended)
    if diligent:  # else there are gaps in what it has seen
        check_sights(app.seen, data)


async def end(peer: Http1Peer, chance: random.Random) -> None:
    """Let the client leave, half-close or fall silent: in the end nothing is left of it."""
    half_closes = chance.random() < 0.5
    if half_closes:
        peer.half_closes()
        await peer.settle()
    # An application may wait for content that does not come for as long as it likes.
    stays = half_closes or (chance.random() < 0.5 and not peer.worker.dispatcher.running)
    assert await peer.left_behind(client_stays=stays) == []


def check_responses(said: bytes, methods: Sequence[str], *, ended: bool) -> None:
    """Hold what the server said against RFC 9112, as h11 reads it."""
    for method in [*methods, "GET"]:
        if not said or method == "WEBSOCKET":
            return  # where a tunnel may begin
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method=_known(method), target="/", headers=[("host", "a")]))
        client.send(h11.EndOfMessage())
        client.receive_data(said)
        if ended:
            client.receive_data(b"")
        try:
            while not isinstance(event := client.next_event(), h11.EndOfMessage):
                if event is h11.NEED_DATA or event is h11.PAUSED:
                    return
        except h11.RemoteProtocolError as error:
            was_cut = "closed connection" in str(error) or "ConnectionClosed" in str(error)
            assert was_cut, f"{error}: {said!r}"  # noqa: PT017 - most errors are of no interest
            return
        said = client.trailing_data[0]
    assert not said, f"said behind the last answer: {said!r}"


def check_sights(seen: Sequence[Sight], data: bytes) -> None:
    """Hold what the application saw against what h11 reads; it may read more than we let through."""
    unread = data
    for sight in seen:
        server = h11.Connection(h11.SERVER)
        while unread.startswith(b"\r\n"):  # h11 knows no empty lines before a request
            unread = unread[2:]
        server.receive_data(unread)
        content = b""
        try:
            request = server.next_event()
            while not isinstance(event := server.next_event(), h11.EndOfMessage):
                assert isinstance(event, h11.Data), f"{sight} is not whole in {data!r}"
                content += event.data
        except h11.RemoteProtocolError as error:
            # The one thing that h11 refuses and RFC 9112, 7.1.1, asks for: white space around ";".
            assert "chunk header" in str(error), f"h11 does not see {sight} in {data!r}"  # noqa: PT017
            return
        assert isinstance(request, h11.Request)
        assert (request.method.decode(), content) == (sight.method, sight.content), data
        assert request.target.endswith(sight.target.lstrip(b"/")), data
        unread = server.trailing_data[0]


def _known(method: str) -> str:
    return method if method == "HEAD" else "GET"


FUZZER = Fuzzer("http1", seeds(), TOKENS, check)
