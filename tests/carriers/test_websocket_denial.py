"""A WebSocket that is refused: by the application with a close or a response, or because it failed."""

import asyncio
import logging

import pytest

from alphorn.core.errors import Disconnected, UnexpectedMessage
from support.carrier import HTTP1_CLEAR, HTTP2_CLEAR
from support.conversation import complaints
from support.exchange import Client
from support.http2_client import Http2Client, Http2Exchange
from support.serving import Connect, Serve
from support.steered_app import Call, SteeredApp
from support.talk import BeginTalk
from support.waiting import stays_pending

# Each of many cases once over each version of HTTP; TLS carries the same bytes.
in_the_clear = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)

DISCONNECT = {"type": "websocket.disconnect", "code": 1006, "reason": ""}


async def start_denial(call: Call, status: int = 401, **more: object) -> None:
    await call.send({"type": "websocket.http.response.start", "status": status, **more})


async def deny_body(call: Call, body: bytes = b"", *, more: bool = False) -> None:
    await call.send({"type": "websocket.http.response.body", "body": body, "more_body": more})


async def test_a_close_before_accept_is_403_and_the_application_is_told(talk: BeginTalk) -> None:
    _, call, answer = await talk.knock()
    await call.receive()

    await call.send({"type": "websocket.close", "code": 4000, "reason": "has no place in HTTP"})
    response = await (await answer).denial()

    assert response.status == 403
    assert response.complete
    assert [await call.receive(), await call.receive()] == [DISCONNECT, DISCONNECT]
    with pytest.raises(UnexpectedMessage, match="closed; legal: nothing"):
        await call.send({"type": "websocket.accept"})


async def test_a_receive_that_waits_learns_of_the_refusal(talk: BeginTalk) -> None:
    _, call, _ = await talk.knock()
    await call.receive()

    await call.send({"type": "websocket.close"})

    assert await call.receive() == DISCONNECT


async def test_an_application_may_answer_with_a_response_of_its_own(talk: BeginTalk) -> None:
    _, call, answer = await talk.knock()
    await call.receive()

    await start_denial(call, 401, headers=[(b"WWW-Authenticate", b"Basic"), (b"set-cookie", b"a=1")])
    await deny_body(call, b"who are you?")
    response = await (await answer).denial()

    assert response.status == 401
    assert response.field("www-authenticate") == b"Basic"
    assert response.field("set-cookie") == b"a=1"
    assert response.field("content-length") == b"12"
    assert response.body == b"who are you?"
    assert response.complete
    assert await call.receive() == DISCONNECT


async def test_a_response_without_headers_and_body_is_one(talk: BeginTalk) -> None:
    _, call, answer = await talk.knock()

    await start_denial(call, 302)
    await call.send({"type": "websocket.http.response.body"})
    response = await (await answer).denial()

    assert (response.status, response.body, response.complete) == (302, b"", True)


async def test_the_body_of_a_response_is_streamed_in_any_number_of_messages(talk: BeginTalk) -> None:
    _, call, answer = await talk.knock()
    await start_denial(call, 503)
    assert await stays_pending(answer, 0.02)

    await deny_body(call, b"one ", more=True)
    websocket = await answer
    assert await websocket.exchange.read_exactly(4) == b"one "
    await deny_body(call, b"two ", more=True)
    assert await websocket.exchange.read_exactly(4) == b"two "
    await deny_body(call, b"three")
    response = await websocket.denial()

    assert response.status == 503
    assert response.body == b"three"
    assert response.complete


async def test_a_slow_reader_of_a_refusal_makes_the_application_wait(talk: BeginTalk) -> None:
    _, call, answer = await talk.knock(receive_window=64 * 1024)
    piece, pieces = b"x" * 256 * 1024, 48  # more than the kernel holds for us
    await start_denial(call, 503)

    async def send_all() -> None:
        for _ in range(pieces):
            await deny_body(call, piece, more=True)
        await deny_body(call)

    sending = asyncio.ensure_future(send_all())
    assert await stays_pending(sending)
    response = await (await answer).denial()
    await sending

    assert len(response.body) == pieces * len(piece)
    assert response.complete


@in_the_clear
@pytest.mark.parametrize("status", [None, "401", 101, 200, 204, 299, 1000])
async def test_a_status_that_does_not_refuse_is_no_refusal(talk: BeginTalk, status: object) -> None:
    """Over HTTP/2 a 2xx would accept (RFC 8441, 4)."""
    _, call, answer = await talk.knock()

    with pytest.raises(UnexpectedMessage):
        await call.send({"type": "websocket.http.response.start", "status": status})
    await call.accept()

    assert (await answer).accepted


async def test_a_refusal_cannot_be_taken_back(talk: BeginTalk) -> None:
    _, call, answer = await talk.knock()
    await start_denial(call)

    for message in ({"type": "websocket.accept"}, {"type": "websocket.close"}):
        with pytest.raises(UnexpectedMessage, match=r"legal: websocket\.http\.response\.body"):
            await call.send(message)
    await deny_body(call, b"no")

    assert (await (await answer).denial()).body == b"no"


async def test_a_refusal_that_does_not_keep_its_length_is_refused(talk: BeginTalk) -> None:
    _, call, answer = await talk.knock()
    await start_denial(call, headers=[(b"content-length", b"3")])

    with pytest.raises(UnexpectedMessage, match="longer than its content-length"):
        await deny_body(call, b"four")
    await deny_body(call, b"two"[:3])

    assert (await (await answer).denial()).body == b"two"


async def test_after_a_refusal_the_connection_serves_on(
    serve: Serve, app: SteeredApp, connect: Connect, talk: BeginTalk
) -> None:
    client = await connect(await serve(app))
    _, call, answer = await talk.knock_on(client)
    await start_denial(call)
    await deny_body(call, b"no")
    await (await answer).denial()

    exchange = await client.request("GET", "/next")
    await (await app.next_call()).respond(200, body=b"yes")

    assert (await exchange.response()).body == b"yes"


async def test_a_refused_client_leaves_no_stream_behind(
    serve: Serve, app: SteeredApp, connect: Connect, talk: BeginTalk
) -> None:
    """Without END_STREAM of its own: a stream that is refused does not count among the open ones."""
    client = await connect(await serve(app, max_streams=1))
    for _ in range(3):
        _, call, answer = await talk.knock_on(client)
        await call.send({"type": "websocket.close"})
        websocket = await answer
        assert (await websocket.denial()).status == 403
        await is_freed(client, websocket.exchange)


async def is_freed(client: Client, exchange: object) -> None:
    if isinstance(client, Http2Client):
        assert isinstance(exchange, Http2Exchange)
        assert await exchange.wait_reset() == 0  # NO_ERROR: nothing more is wanted (RFC 9113, 8.1)


async def test_an_application_that_fails_before_it_answers_is_500(
    talk: BeginTalk, caplog: pytest.LogCaptureFixture
) -> None:
    _, call, answer = await talk.knock()
    call.crash(ValueError("boom"))
    response = await (await answer).denial()

    assert response.status == 500
    assert b"boom" not in response.body
    assert complaints(caplog) == ["WEBSOCKET /: exception in the application"]


async def test_an_application_that_returns_without_an_answer_is_500(
    talk: BeginTalk, caplog: pytest.LogCaptureFixture
) -> None:
    _, call, answer = await talk.knock()
    call.finish()

    assert (await (await answer).denial()).status == 500
    assert complaints(caplog) == ["WEBSOCKET /: application returned before it answered the handshake"]


async def test_an_application_that_fails_before_the_body_of_its_refusal_is_500(talk: BeginTalk) -> None:
    _, call, answer = await talk.knock()
    await start_denial(call, 401)
    call.crash(ValueError("boom"))

    assert (await (await answer).denial()).status == 500


async def test_an_application_that_fails_in_the_middle_of_its_refusal_does_not_look_complete(
    talk: BeginTalk,
) -> None:
    _, call, answer = await talk.knock()
    await start_denial(call, 401)
    await deny_body(call, b"half of ", more=True)
    websocket = await answer
    call.crash(ValueError("boom"))
    response = await websocket.denial()

    assert response.body == b"half of "
    assert not response.complete


async def test_an_application_that_returns_in_the_middle_of_its_refusal_is_complained_about(
    talk: BeginTalk, caplog: pytest.LogCaptureFixture
) -> None:
    _, call, answer = await talk.knock()
    await start_denial(call, 401)
    await deny_body(call, b"half of ", more=True)
    call.finish()

    assert not (await (await answer).denial()).complete
    assert complaints(caplog) == ["WEBSOCKET /: application returned while the response was in its body"]


async def test_a_client_that_leaves_before_it_is_answered_is_no_failure(
    talk: BeginTalk, caplog: pytest.LogCaptureFixture
) -> None:
    client, call, _ = await talk.knock()
    await call.receive()
    await leave(client)

    assert await call.receive() == DISCONNECT
    for message in ({"type": "websocket.accept"}, {"type": "websocket.http.response.start", "status": 401}):
        with pytest.raises(OSError, match="gone") as raised:
            await call.send(message)
    call.crash(raised.value)
    assert await call.cancelled_or_done() == "crashed"
    assert complaints(caplog) == []


async def test_a_client_that_leaves_in_the_middle_of_a_refusal_is_no_failure(
    talk: BeginTalk, caplog: pytest.LogCaptureFixture
) -> None:
    client, call, answer = await talk.knock()
    await start_denial(call)
    await deny_body(call, b"half of ", more=True)
    await answer
    await leave(client)

    assert await call.receive() == {"type": "websocket.connect"}
    assert await call.receive() == DISCONNECT
    with pytest.raises(Disconnected):
        await deny_body(call, b"a message")
    call.finish()
    assert await call.cancelled_or_done() == "done"
    assert complaints(caplog) == []


async def leave(client: Client) -> None:
    """Reset the one stream or the connection."""
    if isinstance(client, Http2Client):
        await client.exchanges[max(client.exchanges)].abandon()
    else:
        client.abandon()


async def test_a_refusal_is_logged_as_the_response_that_it_is(
    talk: BeginTalk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alphorn.access")
    _, call, answer = await talk.knock("/secret")
    await call.send({"type": "websocket.close"})
    await (await answer).denial()

    lines = [record.getMessage() for record in caplog.records if record.name == "alphorn.access"]
    assert len(lines) == 1
    assert "/secret" in lines[0]
    assert " 403 " in lines[0]
