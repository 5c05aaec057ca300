"""How an HTTP/1 connection ends: half-closed, lost, too slow, told to; and that nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from alphorn.core.asgi import Message
from compliance.http1_corpus import chunked, get, post, target
from support.http1_peer import Http1Peer
from support.steered_app import Call, SteeredApp

WRITE_SECONDS = 60.0  # the default of write_timeout

GET = target(b"/")
UPLOAD = post(b"Content-Length: 5")
HALF_HEAD = b"GET / HTTP/1.1\r\nHo"
HEAD_SECONDS = 10
IDLE_SECONDS = 75
MUCH = bytes(300_000)


@pytest.fixture
def app() -> SteeredApp:
    return SteeredApp()


@pytest.fixture
async def peer(app: SteeredApp) -> AsyncIterator[Http1Peer]:
    peer = Http1Peer(app)
    yield peer
    app.finish_all()
    assert await peer.left_behind() == []


async def begun(peer: Http1Peer, app: SteeredApp, request: bytes = GET) -> Call:
    """Send a request and wait for the application's call."""
    peer.sends(request)
    return await app.next_call()


async def answered(peer: Http1Peer, app: SteeredApp, request: bytes = GET, body: bytes = b"") -> None:
    """Send a request and have it answered."""
    call = await begun(peer, app, request)
    await call.respond(body=body)
    call.finish()
    await peer.settle()


def is_open(peer: Http1Peer) -> bool:
    return not peer.transport.is_closing() and not peer.transport.ended


DISCONNECT: Message = {"type": "http.disconnect"}


# ---------------------------------------------------------------------- half-closed


@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r", HALF_HEAD, GET[:-1]], ids=repr)
async def test_without_a_whole_head_a_half_closed_connection_closes_without_a_word(
    peer: Http1Peer, app: SteeredApp, before: bytes
) -> None:
    peer.sends(before)
    peer.half_closes()
    assert not is_open(peer)
    assert peer.received == b""
    assert not app.calls


@pytest.mark.parametrize(
    "request_bytes", [UPLOAD + b"hell", chunked(b"5\r\nhello\r\n")], ids=["length", "chunks"]
)
async def test_content_cut_short_is_never_complete(
    peer: Http1Peer, app: SteeredApp, request_bytes: bytes
) -> None:
    call = await begun(peer, app, request_bytes)
    peer.half_closes()
    assert (await call.receive())["more_body"]
    assert await call.receive() == DISCONNECT
    with pytest.raises(OSError, match="gone"):
        await call.start()
    assert not is_open(peer)
    assert peer.received == b""


async def test_an_application_that_waits_for_content_cut_short_is_woken(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, UPLOAD)
    receiving = asyncio.ensure_future(call.receive())
    await peer.settle()
    assert not receiving.done()
    peer.half_closes()
    assert await receiving == DISCONNECT


async def test_a_half_closed_client_gets_its_answer_and_then_the_end(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app)
    peer.half_closes()
    assert (await call.receive())["type"] == "http.request"
    assert await call.receive() == DISCONNECT
    await call.respond(body=b"still here")
    await peer.settle()
    assert peer.received.endswith(b"still here")
    assert peer.transport.ended


async def test_a_half_closed_client_gets_all_its_pipelined_answers(peer: Http1Peer, app: SteeredApp) -> None:
    peer.sends(GET * 3)
    peer.half_closes()
    for _ in range(3):
        call = await app.next_call()
        assert is_open(peer)
        assert (await call.receive())["type"] == "http.request"
        assert await call.receive() == DISCONNECT
        await call.respond()
        await peer.settle()
    assert peer.received.count(b"200 OK") == 3
    assert peer.transport.ended


@pytest.mark.parametrize(
    "last", [HALF_HEAD, UPLOAD + b"hell", chunked(b"5\r\nhel")], ids=["head", "length", "chunks"]
)
async def test_half_a_request_behind_a_whole_one_ends_the_connection_when_its_turn_comes(
    peer: Http1Peer, app: SteeredApp, last: bytes
) -> None:
    call = await begun(peer, app, GET + last)
    peer.half_closes()
    await call.respond()
    await peer.settle()
    assert peer.received.count(b"HTTP/1.1") == 1
    assert peer.transport.ended
    if len(app.calls) == 2:
        incomplete = await app.next_call()
        assert (await incomplete.receive())["more_body"]
        assert await incomplete.receive() == DISCONNECT


async def test_a_client_that_half_closes_and_reads_late_gets_all_its_answers(
    peer: Http1Peer, app: SteeredApp
) -> None:
    peer.stops_reading()
    peer.sends(GET * 2)
    peer.half_closes()
    call = await app.next_call()
    await call.start()
    sending = asyncio.ensure_future(call.body(MUCH))
    await peer.settle()
    assert len(app.calls) == 1
    peer.goes_on_reading()
    await sending
    await (await app.next_call()).respond(body=b"second")
    await peer.settle()
    assert peer.received.endswith(b"second")
    assert peer.transport.ended


async def test_a_client_that_half_closes_while_its_content_is_dropped_is_let_go(
    peer: Http1Peer, app: SteeredApp
) -> None:
    await answered(peer, app, UPLOAD)
    assert is_open(peer)
    peer.half_closes()
    assert peer.transport.ended


# ---------------------------------------------------------------------- lost


@pytest.mark.parametrize(
    "sent", [b"", HALF_HEAD, UPLOAD, UPLOAD + b"he", GET, GET + HALF_HEAD, GET * 3], ids=range(7)
)
async def test_a_client_that_leaves_leaves_nothing_behind(
    peer: Http1Peer, app: SteeredApp, sent: bytes
) -> None:
    peer.sends(sent)
    await peer.settle()
    peer.leaves()
    await peer.settle()
    assert not peer.worker.connections
    if app.calls:
        call = await app.next_call()
        while (await call.receive()) != DISCONNECT:
            pass
        with pytest.raises(OSError, match="gone"):
            await call.start()


async def test_a_client_that_leaves_wakes_an_application_that_waits_for_room(
    peer: Http1Peer, app: SteeredApp
) -> None:
    peer.stops_reading()
    call = await begun(peer, app)
    await call.start()
    sending = asyncio.ensure_future(call.body(MUCH, more=True))
    await peer.settle()
    assert not sending.done()
    peer.leaves()
    with pytest.raises(OSError, match="gone"):
        await sending


async def test_an_answer_to_a_client_that_is_just_leaving_harms_nobody(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, GET * 2)
    peer.transport._closing = True  # the transport knows, and will tell the connection soon
    await call.respond(body=b"too late")
    peer.leaves()
    await peer.settle()
    assert peer.received == b""
    assert len(app.calls) == 1


async def test_a_response_that_is_cut_while_reading_is_paused_ends_the_connection(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, GET + get() * 10_000)
    await call.start()
    await call.body(b"half", more=True)
    assert not peer.transport.is_reading()
    call.crash(ValueError("no more"))
    await peer.settle()
    assert peer.transport.ended
    assert peer.received.endswith(b"\r\nhalf\r\n")


# ---------------------------------------------------------------------- too slow


async def test_a_silent_client_is_let_go_without_a_word(peer: Http1Peer) -> None:
    peer.clock.advance(HEAD_SECONDS - 1)
    assert is_open(peer)
    peer.clock.advance(2)
    assert not is_open(peer)
    assert peer.received == b""


@pytest.mark.parametrize("sent", [b"G", HALF_HEAD, b"\r\n" + HALF_HEAD], ids=repr)
async def test_a_head_that_does_not_come_to_its_end_is_answered_408(peer: Http1Peer, sent: bytes) -> None:
    peer.sends(sent)
    peer.clock.advance(HEAD_SECONDS + 1)
    assert peer.received.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
    assert b"\r\nconnection: close\r\n" in peer.received


async def test_a_head_that_comes_byte_by_byte_has_no_more_time(peer: Http1Peer, app: SteeredApp) -> None:
    await answered(peer, app)
    for byte in HALF_HEAD:
        peer.clock.advance(1)
        peer.sends(bytes([byte]))
    assert b" 408 " in peer.received


async def test_a_head_has_all_its_time_however_late_it_begins(app: SteeredApp) -> None:
    peer = Http1Peer(app, keep_alive_timeout=5)
    await answered(peer, app)
    peer.clock.advance(4)
    peer.sends(HALF_HEAD)
    peer.clock.advance(HEAD_SECONDS - 1)
    await answered(peer, app, GET[len(HALF_HEAD) :])
    assert peer.received.count(b"200 OK") == 2


async def test_an_idle_connection_is_let_go(peer: Http1Peer, app: SteeredApp) -> None:
    await answered(peer, app)
    peer.clock.advance(IDLE_SECONDS - 1)
    assert is_open(peer)
    peer.clock.advance(2)
    assert peer.transport.ended


async def test_an_application_may_take_its_time(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app)
    peer.clock.advance(3600)
    await call.respond(body=b"at last")
    assert peer.received.endswith(b"at last")


async def test_content_that_nobody_reads_has_the_time_of_a_head_to_come_to_its_end(
    peer: Http1Peer, app: SteeredApp
) -> None:
    await answered(peer, app, UPLOAD)
    peer.clock.advance(HEAD_SECONDS - 1)
    assert is_open(peer)
    peer.clock.advance(2)
    assert not is_open(peer)


async def test_a_client_that_reads_nothing_is_given_up(peer: Http1Peer, app: SteeredApp) -> None:
    peer.stops_reading()
    call = await begun(peer, app)
    await call.start()
    sending = asyncio.ensure_future(call.body(MUCH, more=True))
    await peer.settle()
    peer.clock.advance(WRITE_SECONDS - 1)
    await peer.settle()
    assert not sending.done()
    peer.clock.advance(2)
    with pytest.raises(OSError, match="gone"):
        await sending


async def read_slowly(peer: Http1Peer, until: Callable[[], bool]) -> None:
    """Read some just before the server would give up, again and again."""
    peer.transport.client_reads = False
    for _ in range(1000):
        if until():
            return
        peer.clock.advance(WRITE_SECONDS - 2)
        peer.reads(20_000)
        await peer.settle()
    raise AssertionError("never")


async def test_a_client_that_reads_slowly_is_not_given_up(peer: Http1Peer, app: SteeredApp) -> None:
    peer.stops_reading()
    call = await begun(peer, app)
    await call.start()
    sending = asyncio.ensure_future(call.body(MUCH, more=True))
    await peer.settle()
    await read_slowly(peer, sending.done)
    await sending
    await call.body()


@pytest.mark.parametrize(
    "request_bytes", [GET, get(b"Connection: close"), UPLOAD], ids=["kept", "closed", "half"]
)
async def test_an_answer_that_is_complete_may_be_read_slowly_too(
    peer: Http1Peer, app: SteeredApp, request_bytes: bytes
) -> None:
    peer.stops_reading()
    call = await begun(peer, app, request_bytes)
    await call.start()
    await call.body(MUCH[:60_000])
    await read_slowly(peer, lambda: len(peer.received) > 60_000)


@pytest.mark.parametrize(
    "request_bytes", [GET, get(b"Connection: close"), UPLOAD], ids=["kept", "closed", "half"]
)
async def test_an_answer_that_is_complete_is_not_kept_for_ever(
    peer: Http1Peer, app: SteeredApp, request_bytes: bytes
) -> None:
    peer.stops_reading()
    await answered(peer, app, request_bytes, MUCH[:60_000])
    peer.clock.advance(IDLE_SECONDS + 2 * WRITE_SECONDS)
    await peer.settle()
    assert peer.transport.aborted
    assert not peer.worker.connections


async def test_whoever_was_refused_may_go_on_for_a_while(peer: Http1Peer) -> None:
    peer.sends(b"nonsense\r\n\r\n")
    assert peer.transport.ended
    peer.sends(MUCH, MUCH, MUCH, MUCH)
    assert not peer.transport.is_reading()
    peer.clock.advance(4)
    assert not peer.transport.aborted
    peer.clock.advance(2)
    assert peer.transport.aborted


# ---------------------------------------------------------------------- told to


@pytest.mark.parametrize("sent", [b"", b"\r\n"], ids=repr)
async def test_at_shutdown_a_connection_without_a_request_closes(peer: Http1Peer, sent: bytes) -> None:
    peer.sends(sent)
    peer.connection.shutdown()
    assert peer.transport.ended


async def test_at_shutdown_an_idle_connection_closes(peer: Http1Peer, app: SteeredApp) -> None:
    await answered(peer, app)
    peer.connection.shutdown()
    assert peer.transport.ended


async def test_at_shutdown_a_head_that_has_begun_is_still_answered(peer: Http1Peer, app: SteeredApp) -> None:
    peer.sends(HALF_HEAD)
    peer.connection.shutdown()
    await answered(peer, app, GET[len(HALF_HEAD) :] + GET)
    assert peer.received.count(b"200 OK") == 1
    assert b"\r\nconnection: close\r\n" in peer.received
    assert peer.transport.ended


@pytest.mark.parametrize("started", [False, True])
async def test_at_shutdown_a_response_is_finished(peer: Http1Peer, app: SteeredApp, started: bool) -> None:
    call = await begun(peer, app, GET * 2)
    if started:
        await call.start()
        await call.body(b"first", more=True)
    peer.connection.shutdown()
    assert is_open(peer)
    if not started:
        await call.start()
    await call.body(b"last")
    await peer.settle()
    assert b"last" in peer.received
    assert (b"\r\nconnection: close\r\n" in peer.received) is not started
    assert peer.transport.ended
    assert len(app.calls) == 1


async def test_at_shutdown_content_that_nobody_reads_is_not_waited_for(
    peer: Http1Peer, app: SteeredApp
) -> None:
    await answered(peer, app, UPLOAD)
    peer.connection.shutdown()
    assert peer.transport.ended


async def test_at_shutdown_whoever_was_refused_has_another_second(peer: Http1Peer) -> None:
    peer.sends(b"nonsense\r\n\r\n")
    (lingering,) = peer.worker.connections
    lingering.shutdown()
    assert not peer.transport.aborted
    peer.clock.advance(1)
    assert peer.transport.aborted
