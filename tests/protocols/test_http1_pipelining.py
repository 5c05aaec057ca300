"""Pipelined requests: in order, however they are cut, without recursion, in bounded memory and fair time."""

import asyncio
import itertools
import re
import time

import hypothesis
from hypothesis import strategies

from alphorn.core.asgi import Receive, Scope, Send
from compliance.http1_corpus import Case, target
from compliance.http1_corpus_run import CASES, SETTINGS
from support.http1_peer import Http1Peer
from support.waiting import turns

GET = target(b"/")
VARIABLE = re.compile(rb"HTTP/1.1 100 Continue\r\n\r\n|date: [^\r]*\r\n")
"""What may differ from one conversation to the next: who had sent its content by then is not asked for it."""

WINDOW = 256 * 1024
HIGH_MARK = 64 * 1024


class Answering:
    """Answers every request with its path, or with a body of a given size; remembers what it saw.

    Attributes:
        seen: Method, raw path, query, version, headers and content of each request that was whole.
        held: An event without which it does not answer.
    """

    def __init__(self, size: int | None = None) -> None:
        self.seen: list[object] = []
        self.held: asyncio.Event | None = None
        self._size = size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        content, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            content += message["body"]
            more = message["more_body"]
        facts = (scope["method"], scope["raw_path"], scope["query_string"], scope["http_version"])
        self.seen.append((*facts, scope["headers"], content))
        if self.held is not None:
            await self.held.wait()
        body = scope["raw_path"] if self._size is None else bytes(self._size)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})


def numbered(count: int) -> bytes:
    return b"".join(target(b"/%d" % number) for number in range(count))


# ---------------------------------------------------------------------- any split


def held_conversation(pieces: list[bytes]) -> tuple[list[object], bytes, bool]:
    """What the application sees, what the client reads, and whether the connection ends."""

    async def hold() -> tuple[list[object], bytes, bool]:
        app = Answering()
        peer = Http1Peer(app, **SETTINGS)
        for piece in pieces:
            peer.sends(piece)
            await turns(1)
        await peer.settle()
        ended = peer.transport.ended
        peer.half_closes()
        assert await peer.left_behind() == []
        return app.seen, VARIABLE.sub(b"", peer.received), ended

    return asyncio.run(hold())


@hypothesis.settings(deadline=None, max_examples=150)
@hypothesis.given(
    cases=strategies.lists(strategies.sampled_from(CASES), min_size=1, max_size=3),
    cuts=strategies.lists(strategies.floats(0, 1), max_size=30),
)
def test_any_split_of_the_same_bytes_gives_the_same_conversation(
    cases: list[Case], cuts: list[float]
) -> None:
    data = GET + b"".join(case.raw for case in cases) + GET
    places = [0, *sorted({round(cut * len(data)) for cut in cuts}), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(places)]
    assert held_conversation(pieces) == held_conversation([data])


# ---------------------------------------------------------------------- many


async def test_ten_thousand_pipelined_requests_are_answered_in_order_without_recursion() -> None:
    app = Answering()
    peer = Http1Peer(app)

    peer.sends(numbered(10_000))
    while len(app.seen) < 10_000:
        await peer.settle()
    await peer.settle()

    assert re.findall(rb"\r\n\r\n/(\d+)", peer.received) == [b"%d" % number for number in range(10_000)]
    assert await peer.left_behind() == []


async def test_requests_that_arrive_together_are_answered_in_few_writes() -> None:
    peer = Http1Peer(Answering())
    peer.sends(GET)
    await peer.settle()
    assert peer.transport.writes == 1

    peer.sends(GET * 320)
    while peer.received.count(b"200 OK") < 321:
        await peer.settle()

    # One for each turn, where applications begin at once (CPython 3.12); else one for each answer.
    assert peer.transport.writes in (11, 321)


async def test_others_get_their_turn_between_the_requests_of_a_flood() -> None:
    app = Answering()
    peer = Http1Peer(app)
    peer.sends(numbered(1000))
    assert len(app.seen) <= 32


async def test_a_flood_is_not_read_while_the_application_is_busy() -> None:
    app = Answering()
    app.held = asyncio.Event()
    peer = Http1Peer(app)
    flood = numbered(1000)
    sent = 0
    while peer.transport.is_reading():
        peer.sends(flood)
        sent += len(flood)

    assert WINDOW <= sent <= WINDOW + len(flood)
    app.held.set()
    while len(app.seen) < sent // len(flood) * 1000:
        await peer.settle()
    await peer.settle()
    assert peer.transport.is_reading()


async def test_no_request_begins_while_its_client_does_not_read_the_answers_before() -> None:
    app = Answering(size=10_000)
    peer = Http1Peer(app)
    peer.stops_reading()
    flood = GET * 1000
    while peer.transport.is_reading():
        peer.sends(flood)
        await peer.settle()
        assert len(peer.transport.unsent) < 2 * HIGH_MARK
    begun = len(app.seen)
    assert begun < 2 * HIGH_MARK // 10_000

    peer.reads()
    await peer.settle()
    assert begun < len(app.seen) < 2 * begun + 2
    peer.goes_on_reading()
    while not peer.transport.is_reading():
        await peer.settle()
    assert await peer.left_behind() == []


# ---------------------------------------------------------------------- cost


def seconds_for(pieces: list[bytes]) -> float:
    """Processor time that the server takes for them, at best."""

    async def feed() -> float:
        app = Answering()
        peer = Http1Peer(app)
        begun = time.process_time()
        for piece in pieces:
            peer.sends(piece)
        while not peer.received.endswith(b"/last"):
            await peer.settle()
        return time.process_time() - begun

    return min(asyncio.run(feed()) for _ in range(3))


def test_the_cost_of_a_head_is_linear_in_its_pieces() -> None:
    def one_by_one(size: int) -> list[bytes]:
        field = b"A: " + b"a" * 500
        lines = [b"GET /last HTTP/1.1", b"Host: a", *[field] * (size // len(field)), b"", b""]
        data = b"\r\n".join(lines)
        return [data[index : index + 1] for index in range(len(data))]

    small, large = seconds_for(one_by_one(8_000)), seconds_for(one_by_one(60_000))
    assert large < 7.5 * small * 3  # quadratic would be 56 times as much


def test_the_cost_of_pipelined_requests_is_linear_in_their_number() -> None:
    small = seconds_for([numbered(200) + target(b"/last")])
    large = seconds_for([numbered(4000) + target(b"/last")])
    assert large < 20 * small * 3  # quadratic would be 400 times as much
