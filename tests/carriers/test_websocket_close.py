"""How a WebSocket ends: who says what to whom, and what the application learns (RFC 6455, 7)."""

import asyncio
import contextlib
import logging

import pytest

from alphorn.core.asgi import Message
from alphorn.core.errors import Disconnected, UnexpectedMessage
from support.carrier import HTTP1_CLEAR, HTTP2_CLEAR, HTTP2_TLS
from support.clock import ManualClock
from support.conversation import complaints, settled
from support.http2_client import Http2Client
from support.serving import Connect, Serve
from support.steered_app import Call, SteeredApp
from support.talk import BeginTalk
from support.waiting import stays_pending
from support.websocket_client import Close, WebSocketClient

# Each of many cases once over each version of HTTP; TLS carries the same bytes.
in_the_clear = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)

TEXT, CLOSE = 1, 8


def disconnect(code: int, reason: str = "") -> Message:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


async def close(call: Call, **more: object) -> None:
    await call.send({"type": "websocket.close", **more})


# ------------------------------------------------------------------ by the client


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1001, "away"), (1011, "their mistake"), (1012, ""), (3000, "é"), (4321, "r" * 123)],
)
async def test_defect_8_the_clients_code_and_reason_reach_the_application(
    talk: BeginTalk, code: int, reason: str
) -> None:
    """Defect 8: a close code of the client is not lost."""
    websocket, call = await talk()
    receiving = asyncio.ensure_future(call.receive())

    assert await websocket.close(code, reason) == Close(code)
    assert await receiving == disconnect(code, reason)
    assert await websocket.wait_closed()


async def test_a_close_frame_without_a_code_is_1005(talk: BeginTalk) -> None:
    websocket, call = await talk()
    await websocket.send_frame(CLOSE)

    assert await websocket.receive() == Close(1005)
    assert await call.receive() == disconnect(1005)


async def test_an_end_without_a_close_frame_is_1006(talk: BeginTalk) -> None:
    websocket, call = await talk()
    receiving = asyncio.ensure_future(call.receive())
    await websocket.hang_up()

    assert await receiving == disconnect(1006)
    assert await websocket.wait_closed()
    assert websocket.closed == Close(1006)


async def test_a_client_that_vanishes_is_1006(talk: BeginTalk) -> None:
    websocket, call = await talk()
    receiving = asyncio.ensure_future(call.receive())
    await websocket.abandon()

    assert await receiving == disconnect(1006)


async def test_an_end_in_the_middle_of_a_message_is_1006(talk: BeginTalk) -> None:
    websocket, call = await talk()
    await websocket.send_frame(TEXT, b"half of ", fin=False)
    await websocket.abandon()

    assert await call.receive() == disconnect(1006)


@pytest.mark.parametrize("how", ["close", "hang up"])
async def test_what_was_sent_before_the_end_is_delivered_before_the_end(talk: BeginTalk, how: str) -> None:
    """Also what waits unparsed, because the application was slow."""
    websocket, call = await talk()
    messages = [bytes([number]) * 30_000 for number in range(5)]
    for message in messages:
        await websocket.send(message)
    if how == "close":
        await websocket.send_frame(CLOSE, b"\x10\xe1bye")
    await websocket.hang_up()
    await settled(lambda: 0)

    assert [(await call.receive())["bytes"] for _ in messages] == messages
    assert await call.receive() == (disconnect(4321, "bye") if how == "close" else disconnect(1006))


async def test_after_the_end_receive_says_so_for_ever_and_send_is_an_oserror(talk: BeginTalk) -> None:
    """ASGI www 2.4."""
    websocket, call = await talk()
    await websocket.close(1001)

    assert [await call.receive() for _ in range(3)] == [disconnect(1001)] * 3
    for message in ({"type": "websocket.send", "text": "too late"}, {"type": "websocket.close"}):
        with pytest.raises(OSError, match="gone") as raised:
            await call.send(message)
        assert isinstance(raised.value, Disconnected)


async def test_a_send_finds_out_by_itself_that_the_client_has_gone(talk: BeginTalk) -> None:
    websocket, call = await talk()
    await websocket.abandon()

    with pytest.raises(Disconnected):
        await send_for_ever(call, [])


async def test_the_servers_own_error_is_not_logged_when_it_leaks(
    talk: BeginTalk, caplog: pytest.LogCaptureFixture
) -> None:
    websocket, call = await talk()
    await websocket.close()
    with pytest.raises(Disconnected) as raised:
        await call.send({"type": "websocket.send", "text": "too late"})
    call.crash(raised.value)

    assert await call.cancelled_or_done() == "crashed"
    assert complaints(caplog) == []


# ------------------------------------------------------------------ by the application


@in_the_clear
@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({}, Close(1000)),
        ({"code": None, "reason": None}, Close(1000)),
        ({"code": 1001, "reason": ""}, Close(1001)),
        ({"code": 4000, "reason": "grüße"}, Close(4000, "grüße")),
        ({"code": 1011}, Close(1011)),
        ({"code": 1012, "reason": "back soon"}, Close(1012, "back soon")),
        ({"code": 1005}, Close(1005)),
        ({"code": 1005, "reason": "has no place without a code"}, Close(1005)),
        ({"reason": "r" * 124}, Close(1000, "r" * 123)),
        ({"reason": "é" * 62}, Close(1000, "é" * 61)),  # 123 bytes would be half a character
    ],
    ids=repr,
)
async def test_the_applications_code_and_reason_reach_the_client(
    talk: BeginTalk, message: dict[str, object], expected: Close
) -> None:
    websocket, call = await talk()
    await close(call, **message)

    assert await websocket.receive() == expected
    assert await websocket.wait_closed()
    assert await call.receive() == disconnect(expected.code, expected.reason)  # as the client echoes them


@in_the_clear
@pytest.mark.parametrize(
    "message",
    [
        {"code": 999},
        {"code": 1004},
        {"code": 1006},
        {"code": 1015},
        {"code": 2000},
        {"code": 5000},
        {"code": "1000"},
        {"code": 1000.0},
        {"reason": b"bytes"},
        {"reason": "\ud800"},
    ],
    ids=repr,
)
async def test_a_close_that_cannot_be_sent_is_refused_and_the_conversation_goes_on(
    talk: BeginTalk, message: dict[str, object]
) -> None:
    """RFC 6455, 7.4."""
    websocket, call = await talk()

    with pytest.raises(UnexpectedMessage):
        await close(call, **message)
    await websocket.send("still there")
    assert (await call.receive())["text"] == "still there"
    await close(call)

    assert await websocket.receive() == Close(1000)


async def test_the_application_learns_what_the_client_answers_to_its_close(talk: BeginTalk) -> None:
    websocket, call = await talk()
    websocket.answers_close = False
    await close(call, code=4000)
    receiving = asyncio.ensure_future(call.receive())
    assert await websocket.receive() == Close(4000)
    await websocket.send_frame(TEXT, b"crossed on the way")
    assert await stays_pending(receiving, 0.02)
    await websocket.send_frame(CLOSE, b"\x0f\xa1fine")

    assert await receiving == disconnect(4001, "fine")
    assert await websocket.wait_closed()


async def test_closes_that_cross_are_one_closing_handshake(talk: BeginTalk) -> None:
    websocket, call = await talk()
    await websocket.send_frame(CLOSE, b"\x03\xe9")
    with contextlib.suppress(Disconnected):  # if the client's is read first
        await close(call, code=4000)

    assert await websocket.receive() in (Close(4000), Close(1001))
    assert await call.receive() == disconnect(1001)
    assert await websocket.wait_closed()


async def test_after_its_own_close_an_application_may_say_nothing_more(talk: BeginTalk) -> None:
    """Its mistake, not the client's: no OSError."""
    websocket, call = await talk()
    websocket.answers_close = False
    await close(call)
    for _ in range(2):
        for message in ({"type": "websocket.send", "text": "too late"}, {"type": "websocket.close"}):
            with pytest.raises(UnexpectedMessage, match="legal: nothing"):
                await call.send(message)
        await websocket.receive()
        await websocket.send_frame(CLOSE, b"\x03\xe8")
        assert await call.receive() == disconnect(1000)


async def test_a_close_does_not_wait_for_what_nobody_received(talk: BeginTalk) -> None:
    """The client's answer is behind messages that the application did not want any more."""
    websocket, call = await talk()
    for _ in range(5):
        await websocket.send(bytes(30_000))
    await settled(lambda: 0)
    await close(call, code=4000)

    assert await websocket.receive() == Close(4000)
    assert await websocket.wait_closed()
    assert await call.receive() == disconnect(4000)


async def test_a_client_that_does_not_answer_a_close_is_not_waited_for_long(
    talk: BeginTalk, clock: ManualClock
) -> None:
    websocket, call = await talk(clock=clock, ws_close_timeout=10)
    websocket.answers_close = False
    await close(call)
    receiving = asyncio.ensure_future(call.receive())
    clock.advance(9)
    assert await stays_pending(receiving, 0.02)
    clock.advance(1)

    assert await receiving == disconnect(1006)
    assert await websocket.wait_closed()


async def test_an_application_that_returns_closes_with_1000(talk: BeginTalk) -> None:
    websocket, call = await talk()
    await websocket.send("nobody will receive this")
    call.finish()

    assert await websocket.receive() == Close(1000)
    assert await websocket.wait_closed()


async def test_an_application_that_fails_closes_with_1011(
    talk: BeginTalk, caplog: pytest.LogCaptureFixture
) -> None:
    websocket, call = await talk()
    call.crash(ValueError("boom"))

    assert await websocket.receive() == Close(1011)  # and no word about our insides
    assert await websocket.wait_closed()
    assert complaints(caplog) == ["WEBSOCKET /: exception in the application"]


async def test_an_application_that_returns_after_the_end_is_not_complained_about(
    talk: BeginTalk, caplog: pytest.LogCaptureFixture
) -> None:
    websocket, call = await talk()
    await websocket.close()
    call.finish()

    assert await call.cancelled_or_done() == "done"
    assert complaints(caplog) == []


async def test_the_end_is_logged_once_with_what_was_sent(
    talk: BeginTalk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alphorn.access")
    websocket, call = await talk()
    await call.send({"type": "websocket.send", "text": "hello"})
    await websocket.close()
    await call.receive()

    lines = [record.getMessage() for record in caplog.records if record.name == "alphorn.access"]
    assert len(lines) == 1
    assert f" {websocket.head.status} 7 " in lines[0]  # 7: the bytes of its only frame


# ------------------------------------------------------------------ by the server


async def test_defect_15_a_shutdown_closes_with_1012_and_tells_the_application_at_once(
    serve: Serve, talk: BeginTalk
) -> None:
    """Defect 15: neither a missing close frame nor a hang."""
    websocket, call = await talk()
    receiving = asyncio.ensure_future(call.receive())
    stopping = asyncio.ensure_future(serve.servers[0].stop())

    assert await receiving == disconnect(1012, "server shutting down")
    with pytest.raises(Disconnected):
        await call.send({"type": "websocket.send", "text": "too late"})
    assert await websocket.receive() == Close(1012, "server shutting down")
    assert not stopping.done()  # until the application has returned
    call.finish()
    await leave(websocket)
    await stopping


async def test_a_shutdown_does_not_wait_long_for_a_client_that_does_not_answer(
    serve: Serve, talk: BeginTalk, clock: ManualClock
) -> None:
    websocket, call = await talk(clock=clock, graceful_timeout=30, ws_close_timeout=10)
    websocket.answers_close = False
    stopping = asyncio.ensure_future(serve.servers[0].stop())
    assert await websocket.receive() == Close(1012, "server shutting down")
    call.finish()
    await call.cancelled_or_done()
    clock.advance(11)

    await leave(websocket)
    await stopping


async def test_a_shutdown_wakes_an_application_that_waits_to_send(serve: Serve, talk: BeginTalk) -> None:
    _, call = await talk(receive_window=64 * 1024, graceful_timeout=0.2)
    sent: list[int] = []
    sending = asyncio.ensure_future(send_for_ever(call, sent))
    await settled(lambda: len(sent))
    stopping = asyncio.ensure_future(serve.servers[0].stop())

    with pytest.raises(Disconnected):
        await sending
    call.finish()
    await stopping


async def send_for_ever(call: Call, sent: list[int]) -> None:
    while True:
        await call.send({"type": "websocket.send", "bytes": bytes(64 * 1024)})
        sent.append(64 * 1024)


async def test_a_handshake_under_way_during_a_shutdown_is_left_to_the_application(
    serve: Serve, talk: BeginTalk
) -> None:
    _, call, answer = await talk.knock()
    assert await call.receive() == {"type": "websocket.connect"}
    stopping = asyncio.ensure_future(serve.servers[0].stop())
    await settled(lambda: 0)
    await call.send({"type": "websocket.accept"})

    websocket = await answer
    assert await websocket.receive() == Close(1012, "server shutting down")
    assert await call.receive() == disconnect(1012, "server shutting down")
    call.finish()
    await leave(websocket)
    await stopping


async def test_a_handshake_under_way_during_a_shutdown_may_be_refused(serve: Serve, talk: BeginTalk) -> None:
    _, call, answer = await talk.knock()
    stopping = asyncio.ensure_future(serve.servers[0].stop())
    await settled(lambda: 0)
    await close(call)

    websocket = await answer
    assert (await websocket.denial()).status == 403
    call.finish()
    websocket.exchange._client.close()
    await stopping


async def test_an_application_that_ignores_the_shutdown_is_cancelled(serve: Serve, talk: BeginTalk) -> None:
    websocket, call = await talk(graceful_timeout=0.05)
    stopping = asyncio.ensure_future(serve.servers[0].stop())

    assert await call.cancelled_or_done() == "cancelled"
    assert await websocket.receive() == Close(1012, "server shutting down")
    await leave(websocket)
    await stopping


async def leave(websocket: WebSocketClient) -> None:
    """Go as soon as the server has ended the connection or stream."""
    assert await websocket.wait_closed()
    websocket.exchange._client.close()


# ------------------------------------------------------------------ what is left


async def test_over_http1_the_server_closes_the_connection_first(talk: BeginTalk) -> None:
    """RFC 6455, 7.1.1; over HTTP/2 the same is END_STREAM (RFC 8441, 5)."""
    websocket, _ = await talk()
    assert await websocket.close() == Close(1000)

    assert await websocket.wait_closed()


@pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)
async def test_over_http2_the_connection_serves_on(
    serve: Serve, app: SteeredApp, connect: Connect, talk: BeginTalk
) -> None:
    client = await connect(await serve(app, max_streams=1))
    assert isinstance(client, Http2Client)
    for _ in range(3):
        websocket, call = await talk.on(client)
        assert await websocket.close() == Close(1000)
        assert await websocket.wait_closed()
        call.finish()
    exchange = await client.request("GET", "/")
    await (await app.next_call()).respond(200, body=b"ok")

    assert (await exchange.response()).body == b"ok"


@pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)
async def test_over_http2_a_client_that_keeps_its_side_open_does_not_keep_the_stream(
    serve: Serve, app: SteeredApp, connect: Connect, talk: BeginTalk
) -> None:
    """It would count among the open streams for ever, and hold up every shutdown."""
    client = await connect(await serve(app, max_streams=1))
    websocket, call = await talk.on(client)
    await websocket.send_frame(CLOSE, b"\x03\xe8")
    await call.receive()
    assert await closing_code(websocket) == Close(1000)
    exchange = await client.request("GET", "/")
    await (await app.next_call()).respond(200)

    assert (await exchange.response()).status == 200


async def closing_code(websocket: WebSocketClient) -> Close:
    websocket.answers_close = False
    closed = await websocket.receive()
    assert isinstance(closed, Close)
    return closed
