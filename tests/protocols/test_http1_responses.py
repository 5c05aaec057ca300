"""The bytes of HTTP/1 responses: framing, interim responses, trailers, early answers, refusals."""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from compliance.http1_corpus import chunked, get, line, post, target
from support.http1_peer import Http1Peer
from support.steered_app import Call, SteeredApp

GET = target(b"/")
GET_10 = b"GET / HTTP/1.0\r\n\r\n"
HEAD = line(b"HEAD / HTTP/1.1")
WITH_TRAILERS = get(b"TE: trailers")
EXPECTING = post(b"Content-Length: 5", b"Expect: 100-continue")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
DRAINED = 256 * 1024

DATE = re.compile(rb"date: [^\r]{29}\r\n")


@pytest.fixture
def app() -> SteeredApp:
    return SteeredApp()


@pytest.fixture
async def peer(app: SteeredApp) -> AsyncIterator[Http1Peer]:
    peer = Http1Peer(app, server_header="")
    yield peer
    app.finish_all()
    assert await peer.left_behind() == []


async def begun(peer: Http1Peer, app: SteeredApp, request: bytes) -> Call:
    """Send a request and wait for the application's call."""
    peer.sends(request)
    return await app.next_call()


async def said(peer: Http1Peer) -> bytes:
    """What the client has read so far, without the dates, of which every head has one."""
    await peer.settle()
    heads = len(re.findall(rb"HTTP/1\.1 [2-5]", peer.received))
    without, dates = DATE.subn(b"", peer.received)
    assert dates == heads
    return without


# ---------------------------------------------------------------------- framing


async def test_a_body_in_one_message_is_measured(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, GET)
    await call.respond(200, [(b"A", b"1")], b"hello")
    assert await said(peer) == b"HTTP/1.1 200 OK\r\na: 1\r\ncontent-length: 5\r\n\r\nhello"


async def test_a_body_in_messages_is_chunked(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, GET)
    await call.start()
    await call.body(b"hello", more=True)
    await call.body(b"", more=True)
    await call.body(b"0123456789abcdef", more=True)
    await call.body()
    assert await said(peer) == (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
    )


async def test_a_body_in_messages_to_http_1_0_ends_with_the_connection(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, GET_10)
    await call.start()
    await call.body(b"hello", more=True)
    await call.body(b"!")
    assert await said(peer) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello!"
    assert peer.transport.ended


@pytest.mark.parametrize(
    ("request_bytes", "status", "head"),
    [
        (HEAD, 200, b"200 OK\r\ncontent-length: 5"),
        (GET, 204, b"204 No Content"),
        (GET, 205, b"205 Reset Content\r\ncontent-length: 0"),
        (GET, 304, b"304 Not Modified\r\ncontent-length: 5"),
    ],
)
async def test_a_response_without_content_is_a_head(
    peer: Http1Peer, app: SteeredApp, request_bytes: bytes, status: int, head: bytes
) -> None:
    call = await begun(peer, app, request_bytes + GET)
    await call.respond(status, [(b"content-length", b"5")], b"hello")
    await (await app.next_call()).respond(body=b"next")
    assert await said(peer) == (
        b"HTTP/1.1 " + head + b"\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext"
    )


async def test_a_status_without_a_name_has_no_reason(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, GET)
    await call.respond(299)
    assert (await said(peer)).startswith(b"HTTP/1.1 299 \r\n")


async def test_connection_close_is_said_once_and_done(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, get(b"Connection: close"))
    await call.respond(200, [(b"connection", b"close")])
    assert (await said(peer)).lower().count(b"connection: close") == 1
    assert peer.transport.ended


async def test_a_cut_of_what_is_chunked_or_measured_is_an_end_without_a_last_chunk(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, GET)
    await call.start()
    await call.body(b"hello", more=True)
    call.crash(ValueError("no more"))
    assert (await said(peer)).endswith(b"\r\n\r\n5\r\nhello\r\n")
    assert peer.transport.ended


# ---------------------------------------------------------------------- trailers


async def sends_trailers(call: Call, *fields: tuple[bytes, bytes]) -> None:
    await call.start(200, fields, trailers=True)
    await call.body(b"hello")
    await call.send({"type": "http.response.trailers", "headers": [(b"A", b"1"), (b"b", b"2")]})


async def test_trailers_follow_the_last_chunk(peer: Http1Peer, app: SteeredApp) -> None:
    await sends_trailers(await begun(peer, app, WITH_TRAILERS))
    assert (await said(peer)).endswith(b"5\r\nhello\r\n0\r\na: 1\r\nb: 2\r\n\r\n")


async def test_trailers_that_nobody_asked_for_are_swallowed(peer: Http1Peer, app: SteeredApp) -> None:
    await sends_trailers(await begun(peer, app, GET))
    assert (await said(peer)).endswith(b"5\r\nhello\r\n0\r\n\r\n")


async def test_behind_a_measured_body_there_is_no_place_for_trailers(
    peer: Http1Peer, app: SteeredApp
) -> None:
    await sends_trailers(await begun(peer, app, WITH_TRAILERS + GET), (b"content-length", b"5"))
    await (await app.next_call()).respond()
    assert b"content-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n" in await said(peer)


async def test_http_1_0_has_no_trailers(peer: Http1Peer, app: SteeredApp) -> None:
    await sends_trailers(await begun(peer, app, b"GET / HTTP/1.0\r\nTE: trailers\r\n\r\n"))
    assert (await said(peer)).endswith(b"\r\n\r\nhello")
    assert peer.transport.ended


# ---------------------------------------------------------------------- interim responses


async def test_the_client_is_asked_to_continue_when_the_application_waits(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, EXPECTING)
    assert await said(peer) == b""
    body = asyncio.ensure_future(call.receive_body())
    assert await said(peer) == CONTINUE
    peer.sends(b"hel", b"lo")
    assert await body == b"hello"
    await call.respond()
    assert await said(peer) == CONTINUE + b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


async def test_a_client_that_has_begun_is_not_asked(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, EXPECTING + b"h")
    body = asyncio.ensure_future(call.receive_body())
    assert await said(peer) == b""
    peer.sends(b"ello")
    assert await body == b"hello"
    await call.respond()


async def test_a_client_that_has_no_content_is_not_asked(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, post(b"Content-Length: 0", b"Expect: 100-continue"))
    await call.receive_body()
    await call.respond()
    assert (await said(peer)).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_is_refused_may_send_its_content_or_not_so_the_connection_ends(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, EXPECTING)
    await call.respond(403)
    assert await said(peer) == b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    peer.sends(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert len(app.calls) == 1


async def test_a_response_that_begins_before_the_content_was_asked_for_ends_the_connection_too(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, EXPECTING)
    await call.start()
    await call.body(b"early", more=True)
    peer.sends(b"hello")
    assert await call.receive_body() == b"hello"
    await call.body()
    assert b"\r\nconnection: close\r\n" in await said(peer)
    assert peer.transport.ended


async def test_early_hints_come_before_the_head(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, GET)
    await call.send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload", b"</b>"]})
    assert await said(peer) == b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nlink: </b>\r\n\r\n"
    await call.respond()


# ---------------------------------------------------------------------- early answers


async def test_a_little_content_that_nobody_read_is_dropped(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, post(b"Content-Length: %d" % DRAINED))
    await call.respond(401)
    peer.sends(*[bytes(1024)] * 256, GET)
    await (await app.next_call()).respond(body=b"next")
    assert (await said(peer)).endswith(b"next")
    assert b"close" not in peer.received


async def test_whoever_announces_much_content_is_told_that_it_will_not_be_read(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, post(b"Content-Length: %d" % (DRAINED + 1)))
    await call.respond(413)
    assert b"\r\nconnection: close\r\n" in await said(peer)
    assert peer.transport.ended
    peer.sends(bytes(DRAINED))
    assert not peer.transport.aborted


async def test_content_without_an_end_is_not_dropped_for_ever(peer: Http1Peer, app: SteeredApp) -> None:
    call = await begun(peer, app, chunked(b""))
    await call.respond(413)
    chunk = b"8000\r\n" + bytes(0x8000) + b"\r\n"
    peer.sends(*[chunk] * 8)
    assert not peer.transport.ended
    peer.sends(chunk)
    assert peer.transport.ended


async def test_content_that_waited_for_the_application_is_dropped_with_the_rest(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, post(b"Content-Length: 400000"))
    peer.sends(*[bytes(1000)] * 400)
    assert not peer.transport.is_reading()
    await call.respond()
    peer.sends(GET)
    await (await app.next_call()).respond(body=b"next")
    assert (await said(peer)).endswith(b"next")


# ---------------------------------------------------------------------- refusals


async def test_a_fault_in_the_content_is_a_400_while_there_is_no_response(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, chunked(b"5\r\nhello\r\n"))
    await call.start()
    peer.sends(b"nonsense\r\n")
    assert (await said(peer)).startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert peer.transport.ended
    assert (await call.receive())["body"] == b"hello"
    assert (await call.receive())["type"] == "http.disconnect"
    with pytest.raises(OSError, match="gone"):
        await call.body(b"late")


async def test_a_fault_in_the_content_cuts_a_response_that_has_begun(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, chunked(b""))
    await call.start()
    await call.body(b"hello", more=True)
    peer.sends(b"nonsense\r\n")
    assert (await said(peer)).endswith(b"\r\n5\r\nhello\r\n")
    assert peer.transport.ended
    with pytest.raises(OSError, match="gone"):
        await call.body(b"late")


async def test_a_fault_in_content_that_nobody_reads_leaves_the_response_alone(
    peer: Http1Peer, app: SteeredApp
) -> None:
    call = await begun(peer, app, chunked(b""))
    await call.respond(body=b"hello")
    peer.sends(b"nonsense\r\n")
    assert (await said(peer)).endswith(b"\r\n\r\nhello")
    assert peer.transport.ended


async def test_a_fault_in_the_same_read_keeps_the_application_from_being_started(
    peer: Http1Peer, app: SteeredApp
) -> None:
    peer.sends(chunked(b"5\r\nhello\r\nnonsense\r\n"))
    assert (await said(peer)).startswith(b"HTTP/1.1 400 ")
    assert not app.calls


async def test_a_refusal_says_why_and_repeats_nothing_of_the_request(peer: Http1Peer) -> None:
    peer.sends(get(b"<script> : 1"))
    assert await said(peer) == (
        b"HTTP/1.1 400 Bad Request\r\n"
        b"content-type: text/plain; charset=utf-8\r\ncontent-length: 40\r\nconnection: close\r\n\r\n"
        b"400 Bad Request: a malformed field line\n"
    )


async def test_a_refusal_of_head_has_no_content(peer: Http1Peer) -> None:
    peer.sends(HEAD[:-2] + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n")
    assert (await said(peer)).endswith(b"connection: close\r\n\r\n")
