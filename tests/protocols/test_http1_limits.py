"""The limits of HTTP/1: what is too late, too slow, too large or one too many, what it gets, and that it is counted."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from alphorn.core.config import Config
from compliance.http1_corpus import chunked, get, post, target
from support.http1_peer import Http1Peer
from support.outcomes import NamedOutcome
from support.steered_app import Call, SteeredApp

GET = target(b"/")
PERIOD = 10
ENOUGH = 100 * PERIOD  # bytes in a period
SLOW = {"body_timeout": PERIOD, "body_min_rate": 100}
UPLOAD = post(b"Content-Length: 100000")
DISCONNECT = {"type": "http.disconnect"}


@pytest.fixture
def app() -> SteeredApp:
    return SteeredApp()


async def begun(peer: Http1Peer, app: SteeredApp, request: bytes) -> Call:
    """Send a request and wait for the application's call."""
    peer.sends(request)
    return await app.next_call()


async def waits(peer: Http1Peer, call: Call) -> asyncio.Future[Any]:
    """Let the application wait for content."""
    waiting = asyncio.ensure_future(call.receive())
    await peer.settle()
    assert not waiting.done()
    return waiting


async def ended(peer: Http1Peer, app: SteeredApp) -> None:
    """Let the application end; nothing may be left."""
    app.finish_all()
    await peer.settle()
    assert await peer.left_behind() == []


def observe(peer: Http1Peer) -> list[NamedOutcome]:
    """Have what becomes of its requests from now on."""
    outcomes: list[NamedOutcome] = []
    peer.worker.observers.append(lambda outcome: outcomes.append(NamedOutcome(*outcome)))
    return outcomes


def hits(peer: Http1Peer) -> dict[str, int]:
    return dict(peer.worker.limits.hits)


# ---------------------------------------------------------------------- the pace of content


async def test_content_that_stops_is_answered_408_and_the_application_is_told(app: SteeredApp) -> None:
    peer = Http1Peer(app, **SLOW)
    call = await begun(peer, app, UPLOAD + b"x")
    assert (await call.receive())["body"] == b"x"
    waiting = await waits(peer, call)
    peer.clock.advance(PERIOD - 1)
    assert peer.received == b""
    peer.clock.advance(2)
    assert peer.received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"\r\nconnection: close\r\n" in peer.received
    assert peer.transport.ended
    assert await waiting == DISCONNECT
    with pytest.raises(OSError, match="gone"):
        await call.start()
    assert hits(peer) == {"body_min_rate": 1}
    await ended(peer, app)


async def trickle(peer: Http1Peer, call: Call, data: Callable[[int], bytes], seconds: int) -> None:
    """Send something every second, which the application takes at once."""
    for second in range(seconds):
        waiting = await waits(peer, call)
        peer.clock.advance(1)
        peer.sends(data(second))
        await waiting


async def test_content_that_comes_byte_by_byte_is_too_slow(app: SteeredApp) -> None:
    peer = Http1Peer(app, **SLOW)
    call = await begun(peer, app, UPLOAD)
    await trickle(peer, call, lambda _: b"x", PERIOD - 1)
    waiting = await waits(peer, call)
    peer.clock.advance(2)
    assert b" 408 " in peer.received
    assert await waiting == DISCONNECT
    await ended(peer, app)


@pytest.mark.parametrize("burst", [1, 5], ids=["evenly", "in-bursts"])
async def test_content_that_keeps_the_pace_may_take_for_ever(app: SteeredApp, burst: int) -> None:
    peer = Http1Peer(app, **SLOW)
    call = await begun(peer, app, UPLOAD)
    enough = burst * ENOUGH * 12 // (PERIOD * 10)
    await trickle(peer, call, lambda second: b"x" * (1 if second % burst else enough), 7 * PERIOD)
    assert peer.received == b""
    await ended(peer, app)


async def test_an_early_burst_does_not_last_for_ever(app: SteeredApp) -> None:
    peer = Http1Peer(app, **SLOW)
    call = await begun(peer, app, UPLOAD)
    waiting = await waits(peer, call)
    peer.sends(b"x" * 5 * ENOUGH)
    await waiting
    waiting = await waits(peer, call)
    peer.clock.advance(PERIOD + 1)
    assert peer.received == b""
    peer.clock.advance(PERIOD)
    assert b" 408 " in peer.received
    assert await waiting == DISCONNECT
    await ended(peer, app)


async def test_time_in_which_nobody_reads_does_not_count(app: SteeredApp) -> None:
    peer = Http1Peer(app, **SLOW)
    call = await begun(peer, app, UPLOAD + b"x")
    peer.clock.advance(100 * PERIOD)  # the application has not asked
    await call.receive()
    peer.clock.advance(100 * PERIOD)  # nor asked again
    for _ in range(3):
        waiting = await waits(peer, call)
        peer.clock.advance(PERIOD / 4)
        peer.sends(b"x")
        await waiting
        peer.clock.advance(100 * PERIOD)
    assert peer.received == b""
    waiting = await waits(peer, call)
    peer.clock.advance(PERIOD / 2)  # the rest of the period
    assert b" 408 " in peer.received
    await waiting
    await ended(peer, app)


async def test_time_in_which_reading_is_paused_does_not_count(app: SteeredApp) -> None:
    peer = Http1Peer(app, stream_window=10, **SLOW)
    call = await begun(peer, app, UPLOAD + b"x" * 11)
    assert not peer.transport.is_reading()
    peer.clock.advance(100 * PERIOD)
    await call.receive()
    waiting = await waits(peer, call)
    peer.sends(b"x")
    await waiting
    assert peer.received == b""
    await ended(peer, app)


async def test_an_application_that_has_stopped_waiting_does_not_wait(app: SteeredApp) -> None:
    peer = Http1Peer(app, **SLOW)
    call = await begun(peer, app, UPLOAD)
    waiting = await waits(peer, call)
    waiting.cancel()
    await peer.settle()
    peer.clock.advance(100 * PERIOD)
    assert peer.received == b""
    again = await waits(peer, call)
    peer.clock.advance(PERIOD - 1)
    assert peer.received == b""
    peer.clock.advance(2)
    assert b" 408 " in peer.received
    assert await again == DISCONNECT
    await ended(peer, app)


async def test_two_who_wait_at_once_have_no_more_time_than_one(app: SteeredApp) -> None:
    peer = Http1Peer(app, **SLOW)
    call = await begun(peer, app, UPLOAD)
    first = await waits(peer, call)
    peer.clock.advance(PERIOD - 1)
    second = await waits(peer, call)
    peer.clock.advance(2)
    assert await first == await second == DISCONNECT
    await ended(peer, app)


async def test_a_client_that_waits_for_100_has_its_time_from_then_on(app: SteeredApp) -> None:
    peer = Http1Peer(app, **SLOW)
    call = await begun(peer, app, post(b"Content-Length: 100000", b"Expect: 100-continue"))
    peer.clock.advance(100 * PERIOD)
    waiting = await waits(peer, call)
    assert peer.received == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.clock.advance(PERIOD - 1)
    assert b" 408 " not in peer.received
    peer.clock.advance(2)
    assert b" 408 " in peer.received
    await waiting
    await ended(peer, app)


async def test_once_the_answer_has_begun_the_two_may_talk_at_any_pace(app: SteeredApp) -> None:
    peer = Http1Peer(app, **SLOW)
    call = await begun(peer, app, UPLOAD)
    waiting = await waits(peer, call)
    await call.start()
    await call.body(b"hello", more=True)
    peer.clock.advance(100 * PERIOD)
    assert not waiting.done()
    peer.sends(b"x")
    assert (await waiting)["body"] == b"x"
    waiting = await waits(peer, call)
    peer.clock.advance(100 * PERIOD)
    assert not waiting.done()
    assert not hits(peer)
    await call.body()
    await ended(peer, app)


@pytest.mark.parametrize("chunked_end", [False, True], ids=["measured", "chunked"])
async def test_content_that_has_come_to_its_end_is_waited_for_no_more(
    app: SteeredApp, chunked_end: bool
) -> None:
    peer = Http1Peer(app, **SLOW)
    call = await begun(
        peer, app, chunked(b"1\r\nx\r\n") if chunked_end else post(b"Content-Length: 2") + b"x"
    )
    await call.receive()
    waiting = await waits(peer, call)
    peer.sends(b"0\r\n\r\n" if chunked_end else b"y")
    await waiting
    waiting = await waits(peer, call)
    peer.clock.advance(100 * PERIOD)
    await call.respond(body=b"at last")
    assert peer.received.endswith(b"at last")
    await waiting
    await ended(peer, app)


async def test_the_pace_of_one_request_is_not_that_of_the_next(app: SteeredApp) -> None:
    peer = Http1Peer(app, **SLOW)
    for _ in range(2):
        call = await begun(peer, app, post(b"Content-Length: 1"))
        waiting = await waits(peer, call)
        peer.clock.advance(PERIOD - 1)
        peer.sends(b"x")
        await waiting
        await call.respond()
    assert peer.received.count(b"200 OK") == 2
    await ended(peer, app)


async def test_with_a_rate_of_0_content_may_take_for_ever(app: SteeredApp) -> None:
    peer = Http1Peer(app, body_timeout=1, body_min_rate=0)
    call = await begun(peer, app, UPLOAD)
    waiting = await waits(peer, call)
    peer.clock.advance(10_000)
    peer.sends(b"x")
    assert (await waiting)["body"] == b"x"
    await ended(peer, app)


def test_the_default_pace_is_kept_by_a_modem_and_not_by_a_slow_post_attack() -> None:
    config = Config()
    assert config.body_min_rate * 8 < 9600  # bits per second
    assert config.body_timeout * config.body_min_rate > 1000


# ---------------------------------------------------------------------- the size of content


async def test_content_announced_as_too_large_never_reaches_an_application(app: SteeredApp) -> None:
    peer = Http1Peer(app, max_body=5)
    outcomes = observe(peer)
    peer.sends(post(b"Content-Length: 6", b"Expect: 100-continue"))
    assert peer.received.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nconnection: close\r\n" in peer.received
    assert peer.transport.ended
    assert not app.calls
    assert hits(peer) == {"max_body": 1}
    (outcome,) = outcomes
    assert (outcome.scope["method"], outcome.status, outcome.seconds) == ("POST", 413, None)
    await ended(peer, app)


@pytest.mark.parametrize(
    "request_bytes", [post(b"Content-Length: 5") + b"12345", chunked(b"3\r\n123\r\n2\r\n45\r\n0\r\n\r\n")]
)
async def test_content_that_is_just_small_enough_is_taken(app: SteeredApp, request_bytes: bytes) -> None:
    peer = Http1Peer(app, max_body=5)
    call = await begun(peer, app, request_bytes)
    assert await call.receive_body() == b"12345"
    await call.respond()
    assert b"200 OK" in peer.received
    assert not hits(peer)
    await ended(peer, app)


async def test_chunks_that_become_too_large_are_answered_413(app: SteeredApp) -> None:
    peer = Http1Peer(app, max_body=5)
    outcomes = observe(peer)
    call = await begun(peer, app, chunked(b"3\r\n123\r\n"))
    assert (await call.receive())["body"] == b"123"
    waiting = await waits(peer, call)
    peer.sends(b"3\r\n")  # what is announced need not come
    assert b"HTTP/1.1 413 " in peer.received
    assert peer.transport.ended
    assert await waiting == DISCONNECT
    assert hits(peer) == {"max_body": 1}
    length = len(peer.received.partition(b"\r\n\r\n")[2])
    (outcome,) = outcomes
    assert (outcome.status, outcome.length, outcome.seconds) == (413, length, 0)
    await ended(peer, app)


async def test_chunks_that_become_too_large_cut_an_answer_that_has_begun(app: SteeredApp) -> None:
    peer = Http1Peer(app, max_body=5)
    call = await begun(peer, app, chunked(b"3\r\n123\r\n"))
    await call.start()
    await call.body(b"half", more=True)
    peer.sends(b"3\r\n456\r\n")
    assert peer.received.endswith(b"\r\nhalf\r\n")
    assert peer.transport.ended
    while (message := await call.receive()) != DISCONNECT:
        assert message["more_body"]
    assert hits(peer) == {"max_body": 1}
    await ended(peer, app)


async def test_chunks_that_become_too_large_behind_an_answer_end_the_connection(app: SteeredApp) -> None:
    peer = Http1Peer(app, max_body=5)
    call = await begun(peer, app, chunked(b"3\r\n123\r\n"))
    await call.respond(body=b"early")
    peer.sends(b"3\r\n")
    assert peer.received.endswith(b"early")
    assert peer.transport.ended
    assert hits(peer) == {"max_body": 1}
    await ended(peer, app)


# ---------------------------------------------------------------------- heads


@pytest.mark.parametrize(
    ("request_bytes", "status", "limit"),
    [
        (target(b"/" + b"a" * 5000), 414, "max_head_bytes"),
        (get(b"A: " + b"a" * 5000), 431, "max_head_bytes"),
        (get(*[b"A: 1"] * 40), 431, "max_fields"),
        (chunked(b"0\r\n" + b"A: 1\r\n" * 40), 431, "max_fields"),
        (chunked(b"0\r\n" + (b"A: " + b"1" * 1000 + b"\r\n") * 5), 431, "max_head_bytes"),
    ],
    ids=["line", "head", "fields", "trailer-fields", "trailers"],
)
async def test_what_is_too_large_is_refused_and_counted_once(
    app: SteeredApp,
    request_bytes: bytes,
    status: int,
    limit: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    peer = Http1Peer(app, max_head_bytes=4096, max_fields=32)
    peer.sends(request_bytes, request_bytes)
    assert b"HTTP/1.1 %d " % status in peer.received
    assert peer.transport.ended
    assert hits(peer) == {limit: 1}
    (line,) = caplog.messages
    assert line.startswith("127.0.0.1:1: the")
    assert f"(--{limit.replace('_', '-')})" in line
    await ended(peer, app)


async def test_a_head_that_comes_too_late_is_counted(
    app: SteeredApp, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Http1Peer(app, head_timeout=10)
    peer.sends(b"GET / HT")
    peer.clock.advance(11)
    assert b" 408 " in peer.received
    assert hits(peer) == {"head_timeout": 1}
    assert len(caplog.messages) == 1
    await ended(peer, app)


@pytest.mark.parametrize("before", [b"", b"\r\n"], ids=["silent", "empty-line"])
async def test_a_connection_on_which_nothing_was_asked_is_closed_without_a_line(
    app: SteeredApp, before: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Http1Peer(app, head_timeout=10)
    peer.sends(before)
    peer.clock.advance(11)
    assert peer.transport.ended
    assert peer.received == b""
    assert not hits(peer)
    assert not caplog.messages
    await ended(peer, app)


async def test_an_idle_connection_is_closed_without_a_line(
    app: SteeredApp, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Http1Peer(app)
    call = await begun(peer, app, GET)
    await call.respond()
    peer.clock.advance(1000)
    assert peer.transport.ended
    assert not hits(peer)
    assert not caplog.messages
    await ended(peer, app)


# ---------------------------------------------------------------------- answers that nobody reads


async def test_a_client_that_does_not_read_is_counted(
    app: SteeredApp, caplog: pytest.LogCaptureFixture
) -> None:
    peer = Http1Peer(app, write_timeout=7)
    peer.stops_reading()
    call = await begun(peer, app, GET)
    await call.start()
    sending = asyncio.ensure_future(call.body(bytes(300_000), more=True))
    await peer.settle()
    peer.clock.advance(6)
    assert not peer.transport.aborted
    peer.clock.advance(2)
    assert peer.transport.aborted
    await peer.settle()
    with pytest.raises(OSError, match="gone"):
        await sending
    assert hits(peer) == {"write_timeout": 1}
    assert len(caplog.messages) == 1
    await ended(peer, app)


@pytest.mark.parametrize("fields", [b"", b"Connection: close"], ids=["kept", "last"])
async def test_a_client_that_takes_next_to_nothing_is_cut_too(app: SteeredApp, fields: bytes) -> None:
    peer = Http1Peer(app, write_timeout=10)
    peer.stops_reading()
    call = await begun(peer, app, get(fields) if fields else GET)
    await call.start()
    sending = asyncio.ensure_future(call.body(bytes(60_000 if fields else 300_000), more=not fields))
    await peer.settle()
    for _ in range(2):
        peer.clock.advance(9)
        peer.reads(240 * 10)
        peer.clock.advance(1)
        await peer.settle()
        assert not peer.transport.aborted
    peer.clock.advance(9)
    peer.reads(240 * 10 - 1)
    peer.clock.advance(1)
    await peer.settle()
    assert peer.transport.aborted
    assert hits(peer) == {"write_timeout": 1}
    await asyncio.wait({sending})
    sending.exception()
    await ended(peer, app)


async def test_a_client_that_leaves_its_last_answer_unread_is_counted(app: SteeredApp) -> None:
    peer = Http1Peer(app, write_timeout=7)
    peer.stops_reading()
    call = await begun(peer, app, get(b"Connection: close"))
    await call.respond(body=bytes(60_000))
    peer.clock.advance(6)
    assert not peer.transport.aborted
    peer.clock.advance(2)
    assert peer.transport.aborted
    assert hits(peer) == {"write_timeout": 1}
    await ended(peer, app)


async def test_whoever_was_refused_is_heard_out_for_a_while_and_up_to_a_bound(app: SteeredApp) -> None:
    peer = Http1Peer(app, linger_timeout=3, max_drain=1000)
    peer.sends(b"nonsense\r\n\r\n")
    assert peer.transport.ended
    peer.sends(bytes(1000))
    assert peer.transport.is_reading()
    peer.sends(b"x")
    assert not peer.transport.is_reading()
    peer.clock.advance(2)
    assert not peer.transport.aborted
    peer.clock.advance(2)
    assert peer.transport.aborted
    assert not hits(peer), "that it has not hung up is no attack"
    await ended(peer, app)


# ---------------------------------------------------------------------- many requests


async def test_the_last_request_that_a_connection_may_make_says_so_in_its_answer(app: SteeredApp) -> None:
    peer = Http1Peer(app, max_requests_per_connection=3)
    peer.sends(GET * 5)
    for _ in range(3):
        call = await app.next_call()
        assert b"connection: close" not in peer.received
        await call.respond()
        await peer.settle()
    assert peer.received.count(b"200 OK") == 3
    assert peer.received.count(b"\r\nconnection: close\r\n") == 1
    assert peer.transport.ended
    assert len(app.calls) == 3
    assert not hits(peer), "it has done nothing wrong"
    await ended(peer, app)
