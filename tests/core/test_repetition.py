"""A head that an application says again and again: found out, and never told from one that is made anew."""

import itertools
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from alphorn.core.config import Config
from alphorn.core.exchange import Head
from alphorn.core.http import HttpExchange
from alphorn.core.repetition import Repetition
from alphorn.core.worker import Worker
from alphorn.protocols.http1_plain import PlainResponse
from support.clock import ManualClock
from support.fake_stream import FakeStream, body, make_worker, start

HELLO: list[Any] = [(b"Content-Type", b"text/plain"), (b"content-length", b"1")]


class HeadStream(FakeStream):
    """Keeps the heads that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[Head] = []

    def send(self, head: Head | None, body: bytes, end: bool) -> None:
        super().send(head, body, end)
        if head is not None:
            self.heads.append(head)


def head_of(worker: Worker, status: int, pairs: Any) -> Head:
    """Answer with these fields and one byte; return the head that goes out."""
    stream = HeadStream()
    exchange = HttpExchange(worker, stream, {"type": "http", "method": "GET", "headers": []})
    exchange.act(start(status=status, headers=pairs))
    exchange.act(body(b"a"))
    return stream.heads[0]


def seen(head: Head) -> Head:
    """Return what somebody sees who does not care whether it is repeated."""
    return replace(head, fields=list(head.fields), repeated=False, text=b"")


async def test_a_head_that_is_said_again_and_again_is_made_once() -> None:
    worker = make_worker(Config())

    heads = [head_of(worker, 200, HELLO.copy()) for _ in range(64)]

    assert heads[-1] is heads[-2]
    assert [seen(head) for head in heads] == [seen(heads[0])] * 64


async def test_heads_are_those_of_a_worker_that_remembers_nothing() -> None:
    clock = ManualClock()
    worker = make_worker(Config(), clock)
    length = st.sampled_from([b"1", b" 1", b"01"])
    pair = st.sampled_from(
        [(b"x", b"y"), (b"X", b"z "), (b"Date", b"now"), (b"connection", b"close"), [b"x", b"y"]]
    )
    pairs = st.builds(
        lambda some, value: [*some, (b"content-length", value)], st.lists(pair, max_size=2), length
    )

    @given(status=st.sampled_from([200, 205, 404]), pairs=pairs, passed=st.integers(0, 1))
    def check(status: int, pairs: Any, passed: int) -> None:
        clock.advance(passed)
        worker.repetition._tries = -1  # so that each may be kept
        fresh = make_worker(Config(), clock)
        for _ in range(3):
            assert seen(head_of(worker, status, pairs)) == seen(head_of(fresh, status, pairs))
            worker.repetition._tries = -1

    check()


async def test_a_list_that_its_application_changes_later_changes_no_head() -> None:
    worker = make_worker(Config())
    pairs = HELLO.copy()
    for _ in range(64):
        head_of(worker, 200, pairs)

    pairs[0] = (b"content-type", b"text/html")

    assert (b"content-type", b"text/html") in head_of(worker, 200, pairs).fields
    assert (b"content-type", b"text/plain") in head_of(worker, 200, HELLO).fields


async def test_heads_that_are_new_each_time_are_not_kept_each_time() -> None:
    worker = make_worker(Config())
    kept = []
    for number in range(160):
        head_of(worker, 200, [(b"x", b"%d" % number), (b"content-length", b"1")])
        kept.append(worker.repetition.pairs)

    assert sum(before is not after for before, after in itertools.pairwise(kept)) <= 10


def test_what_could_be_changed_is_not_kept() -> None:
    repetition = Repetition()
    for pairs, head in (
        ([[b"content-length", b"1"]], Head(200, [], measured=True)),
        ([(b"x", b"y")], Head(200, [])),
        (((b"content-length", b"1"),), Head(200, [], measured=True)),
        ([(b"x", b"y")] * 100, Head(200, [], measured=True)),
    ):
        for _ in range(64):
            repetition.consider(pairs, b"date", head, 1)
        assert not repetition.pairs
        assert not head.repeated


def test_a_repeated_head_is_written_as_any_other() -> None:
    fields = [(b"content-type", b"text/plain"), (b"content-length", b"1")]
    once, again = Head(200, fields, measured=True), Head(200, fields, measured=True, repeated=True)

    for close in (False, True, False):
        written = PlainResponse("GET").encode(again, b"a", end=True, close=close)
        assert written == PlainResponse("GET").encode(once, b"a", end=True, close=close)
