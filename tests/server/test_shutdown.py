"""How a server stops: who is told, who may finish, who is cut short, and what the operator reads."""

import asyncio
import logging

import h2.events
import pytest

from alphorn.core.asgi import Message, Receive, Scope, Send
from support.carrier import HTTP1_CLEAR, HTTP2_CLEAR, HTTP_CARRIERS, WEBSOCKET_CARRIERS, Carrier
from support.clock import ManualClock
from support.conversation import Begin, complaints
from support.http2_client import Http2Client
from support.serving import Connect, Serve
from support.steered_app import SteeredApp, accept_lifespan
from support.stopping import GRACE, Stop, ended, until_disconnect
from support.talk import BeginTalk
from support.waiting import stays_pending, turns
from support.websocket_client import Close
from support.wire import Ending

EVENTS = [(b"content-type", b"text/event-stream; charset=utf-8")]


def listen(caplog: pytest.LogCaptureFixture) -> None:
    """From now on, catch what the server tells its operator."""
    caplog.set_level(logging.INFO, "alphorn.error")
    caplog.clear()


def news(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "alphorn.error"]


# --- What is under way may finish


async def test_an_idle_connection_is_closed_at_once(begin: Begin, serve: Serve, stop: Stop) -> None:
    client, exchange, call = await begin()
    await call.respond()
    await exchange.response()
    call.finish()
    stopping = await stop()
    await client.wait_closed()
    assert client.wire.ending is Ending.FIN
    if isinstance(client, Http2Client):
        (goaway,) = [event for event in client.events if isinstance(event, h2.events.ConnectionTerminated)]
        assert goaway.error_code == 0
    client.close()
    await ended(stopping)
    assert serve.servers[0].drained


async def test_a_connection_that_has_said_nothing_yet_is_closed_at_once(
    serve: Serve, connect: Connect, app: SteeredApp, stop: Stop
) -> None:
    client = await connect(await serve(app))
    await turns()
    stopping = await stop()
    await client.wait_closed()
    client.close()
    await ended(stopping)


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_a_request_on_its_way_is_answered_by_a_worker_that_another_has_replaced(
    begin: Begin, serve: Serve, clock: ManualClock
) -> None:
    client, exchange, call = await begin(clock=clock)
    await call.respond()
    await exchange.response()
    call.finish()
    stopping = asyncio.ensure_future(serve.servers[0]._stop(hold_seconds=1.0))
    await turns()
    client, exchange, call = await begin.on(client)
    await call.respond(body=b"in time")
    response = await exchange.response()
    assert (response.body, response.field("connection")) == (b"in time", b"close")
    call.finish()
    await client.wait_closed()
    client.close()
    await ended(stopping)
    assert serve.servers[0].drained


async def test_a_client_that_stays_silent_does_not_hold_a_worker_that_was_replaced(
    begin: Begin, serve: Serve, clock: ManualClock
) -> None:
    client, exchange, call = await begin(clock=clock)
    await call.respond()
    await exchange.response()
    call.finish()
    stopping = asyncio.ensure_future(serve.servers[0]._stop(hold_seconds=1.0))
    closing = asyncio.ensure_future(client.wait_closed())
    assert await stays_pending(closing)
    clock.advance(1)
    await closing
    client.close()
    await ended(stopping)


async def test_a_request_under_way_finishes(
    begin: Begin, serve: Serve, stop: Stop, carrier: Carrier, clock: ManualClock
) -> None:
    client, exchange, call = await begin(clock=clock, graceful_timeout=GRACE)
    stopping = await stop()
    clock.advance(GRACE - 1)
    assert not stopping.done()
    await call.respond(body=b"in time")
    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (200, b"in time", True)
    if carrier.http_version == "1.1":
        assert response.field("connection") == b"close"
    call.finish()
    await client.wait_closed()
    client.close()
    await ended(stopping)
    assert serve.servers[0].drained


async def test_what_an_application_does_after_its_answer_is_waited_for(
    begin: Begin, serve: Serve, stop: Stop, clock: ManualClock
) -> None:
    client, exchange, call = await begin(clock=clock, graceful_timeout=GRACE)
    await call.respond()
    await exchange.response()
    stopping = await stop()
    await client.wait_closed()
    client.close()
    assert await stays_pending(stopping)
    call.finish()
    await ended(stopping)
    assert call.outcome == "done"
    assert serve.servers[0].drained


async def test_no_more_connections_are_taken(
    begin: Begin, connect: Connect, serve: Serve, stop: Stop
) -> None:
    client, exchange, call = await begin()
    stopping = await stop()
    with pytest.raises(ConnectionRefusedError):
        await connect(serve.servers[0].urls[0])
    await call.respond()
    await exchange.response()
    call.finish()
    client.close()
    await ended(stopping)


async def test_the_application_shuts_down_after_the_last_connection(
    serve: Serve, connect: Connect, stop: Stop
) -> None:
    app = SteeredApp(steer_lifespan=True)
    starting = asyncio.ensure_future(serve(app))
    lifespan = await app.next_call()
    await lifespan.receive()
    await lifespan.send({"type": "lifespan.startup.complete"})
    client = await connect(await starting)
    exchange = await client.request("GET", "/")
    call = await app.next_call()
    stopping = await stop()
    receiving = asyncio.ensure_future(lifespan.receive())
    assert await stays_pending(receiving)
    await call.respond()
    call.finish()
    await exchange.response()
    client.close()
    assert await receiving == {"type": "lifespan.shutdown"}
    await lifespan.send({"type": "lifespan.shutdown.complete"})
    lifespan.finish()
    await ended(stopping)


# --- Event streams are endless, and their clients come back


async def test_an_event_stream_is_told_at_once_and_may_say_goodbye(
    begin: Begin, serve: Serve, stop: Stop
) -> None:
    client, exchange, call = await begin()
    await call.start(200, EVENTS)
    await call.body(b"data: 1\n\n", more=True)
    stopping = await stop()
    await until_disconnect(call)
    await call.body(b"data: bye\n\n")
    call.finish()
    response = await exchange.response()
    assert (response.body, response.complete) == (b"data: 1\n\ndata: bye\n\n", True)
    client.close()
    await ended(stopping)
    assert serve.servers[0].drained


async def test_an_event_stream_without_an_event_yet_is_told(begin: Begin, stop: Stop) -> None:
    client, _, call = await begin()
    await call.start(200, EVENTS)
    stopping = await stop()
    await until_disconnect(call)
    client.close()
    call.finish()
    await ended(stopping)


async def test_an_event_stream_that_begins_during_the_shutdown_is_told(begin: Begin, stop: Stop) -> None:
    client, _, call = await begin()
    assert (await call.receive())["type"] == "http.request"
    stopping = await stop()
    receiving = asyncio.ensure_future(call.receive())
    assert await stays_pending(receiving)
    await call.start(200, EVENTS)
    await call.body(b"data: 1\n\n", more=True)
    assert (await receiving)["type"] == "http.disconnect"
    client.close()
    call.finish()
    await ended(stopping)


async def test_an_event_stream_that_never_asks_is_cancelled_after_a_while(
    begin: Begin, serve: Serve, stop: Stop, clock: ManualClock
) -> None:
    client, exchange, call = await begin(clock=clock, graceful_timeout=GRACE)
    await call.receive_body()
    await call.start(200, EVENTS)
    await call.body(b"data: 1\n\n", more=True)
    stopping = await stop()
    clock.advance(4)
    await turns()
    assert call.outcome is None
    clock.advance(1)
    assert await call.cancelled_or_done() == "cancelled"
    await exchange.wait_closed()
    client.close()
    await ended(stopping)
    assert serve.servers[0].drained, "it had no end that it could have come to"


async def test_an_event_stream_that_asks_has_the_whole_grace_to_end(
    begin: Begin, serve: Serve, stop: Stop, clock: ManualClock
) -> None:
    client, exchange, call = await begin(clock=clock, graceful_timeout=GRACE)
    await call.start(200, EVENTS)
    await call.body(b"data: 1\n\n", more=True)
    stopping = await stop()
    await until_disconnect(call)
    clock.advance(GRACE - 1)
    await turns()
    assert call.outcome is None
    await call.body(b"data: bye\n\n")
    call.finish()
    assert (await exchange.response()).complete
    client.close()
    await ended(stopping)
    assert serve.servers[0].drained


async def test_events_that_answer_a_post_have_an_end_and_may_come_to_it(
    begin: Begin, stop: Stop, clock: ManualClock
) -> None:
    client, exchange, call = await begin("POST", content=b"a question", clock=clock, graceful_timeout=GRACE)
    assert await call.receive_body() == b"a question"
    await call.start(200, EVENTS)
    await call.body(b"data: the\n\n", more=True)
    stopping = await stop()
    receiving = asyncio.ensure_future(call.receive())
    assert await stays_pending(receiving)
    clock.advance(GRACE - 1)
    await turns()
    assert call.outcome is None
    await call.body(b"data: answer\n\n")
    assert (await exchange.response()).complete
    call.finish()
    client.close()
    await ended(stopping)
    receiving.cancel()


# --- WebSockets


@pytest.mark.parametrize("carrier", WEBSOCKET_CARRIERS, ids=str)
async def test_a_websocket_is_closed_with_1012_and_its_application_told_at_once_defect_15(
    talk: BeginTalk, serve: Serve, stop: Stop, clock: ManualClock
) -> None:
    websocket, call = await talk(clock=clock, graceful_timeout=GRACE)
    stopping = await stop()
    assert (await call.receive())["type"] == "websocket.disconnect"
    assert await websocket.receive() == Close(1012, "server shutting down")
    call.finish()
    await websocket.wait_closed()
    websocket.exchange._client.close()
    await ended(stopping)
    assert serve.servers[0].drained


@pytest.mark.parametrize("carrier", WEBSOCKET_CARRIERS, ids=str)
async def test_a_websocket_that_is_accepted_during_the_shutdown_is_closed_too(
    talk: BeginTalk, stop: Stop
) -> None:
    client, call, answer = await talk.knock()
    stopping = await stop()
    await call.accept()
    websocket = await answer
    assert await websocket.receive() == Close(1012, "server shutting down")
    call.finish()
    await websocket.wait_closed()
    client.close()
    await ended(stopping)


@pytest.mark.parametrize("carrier", WEBSOCKET_CARRIERS, ids=str)
async def test_a_handshake_that_is_never_answered_becomes_a_500(
    talk: BeginTalk, serve: Serve, stop: Stop, clock: ManualClock
) -> None:
    client, call, answer = await talk.knock(clock=clock, graceful_timeout=GRACE)
    stopping = await stop()
    await pass_grace(clock)
    assert await call.cancelled_or_done() == "cancelled"
    websocket = await answer
    assert not websocket.accepted
    assert websocket.head.status == 500
    client.close()
    await ended(stopping)
    assert not serve.servers[0].drained


# --- When the grace period is over


async def pass_grace(clock: ManualClock) -> None:
    """Let the grace period pass, then the moment for last words."""
    clock.advance(GRACE)
    await turns()
    clock.advance(1)
    await turns()


async def test_when_the_grace_is_over_an_application_is_told_and_may_still_answer(
    begin: Begin, serve: Serve, stop: Stop, clock: ManualClock
) -> None:
    client, exchange, call = await begin(clock=clock, graceful_timeout=GRACE)
    assert (await call.receive())["type"] == "http.request"
    stopping = await stop()
    receiving = asyncio.ensure_future(call.receive())
    await turns()
    assert not receiving.done()
    clock.advance(GRACE)
    assert (await receiving)["type"] == "http.disconnect"
    await call.respond(503, body=b"try again")
    call.finish()
    response = await exchange.response()
    assert (response.status, response.complete) == (503, True)
    client.close()
    await ended(stopping)
    assert call.outcome == "done"
    assert not serve.servers[0].drained


async def test_an_application_that_does_not_heed_it_is_cancelled_and_its_client_gets_a_500(
    begin: Begin, serve: Serve, stop: Stop, clock: ManualClock
) -> None:
    client, exchange, call = await begin(clock=clock, graceful_timeout=GRACE)
    stopping = await stop()
    await pass_grace(clock)
    assert await call.cancelled_or_done() == "cancelled"
    response = await exchange.response()
    assert (response.status, response.complete) == (500, True)
    client.close()
    await ended(stopping)
    assert not serve.servers[0].drained


async def test_a_response_that_has_begun_is_cut_and_cannot_be_taken_for_complete(
    begin: Begin, stop: Stop, clock: ManualClock
) -> None:
    client, exchange, call = await begin(clock=clock, graceful_timeout=GRACE)
    await call.start()
    await call.body(b"some", more=True)
    assert await exchange.read_exactly(4) == b"some"
    stopping = await stop()
    await pass_grace(clock)
    await exchange.wait_closed()
    assert exchange.cut
    client.close()
    await ended(stopping)


async def test_an_application_that_ignores_its_cancellation_is_named_and_left(
    serve: Serve, connect: Connect, stop: Stop, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await accept_lifespan(receive, send)
            return
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    client = await connect(await serve(app, clock=clock, graceful_timeout=GRACE))
    exchange = await client.request("GET", "/stubborn")
    await turns()
    stopping = await stop()
    await pass_grace(clock)
    assert not stopping.done()
    clock.advance(5)
    await turns()
    assert complaints(caplog) == ["/stubborn: the application ignores its cancellation"]
    clock.advance(1)
    await ended(stopping)
    await exchange.wait_closed()
    assert exchange.cut
    assert not serve.servers[0].drained
    release.set()


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
async def test_a_client_that_does_not_read_its_answer_is_given_up(
    begin: Begin, serve: Serve, stop: Stop, clock: ManualClock
) -> None:
    client, exchange, call = await begin(receive_window=4096, clock=clock, graceful_timeout=GRACE)
    await call.start()
    sending = asyncio.ensure_future(call.body(bytes(16 * 1024 * 1024)))
    await exchange.head()
    stopping = await stop()
    assert await stays_pending(stopping)
    for _ in range(5):
        clock.advance(GRACE)
        await turns()
    await ended(stopping)
    assert not serve.servers[0].drained
    await asyncio.gather(sending, return_exceptions=True)
    client.close()


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
async def test_without_grace_everything_is_told_and_cancelled_in_a_moment(
    begin: Begin, stop: Stop, clock: ManualClock
) -> None:
    client, exchange, call = await begin(clock=clock, graceful_timeout=0)
    stopping = await stop()
    await until_disconnect(call)
    clock.advance(1)
    assert await call.cancelled_or_done() == "cancelled"
    assert (await exchange.response()).status == 500
    client.close()
    await ended(stopping)


@pytest.mark.parametrize("carrier", HTTP_CARRIERS, ids=str)
async def test_without_grace_an_idle_server_still_ends_cleanly(
    serve: Serve, connect: Connect, app: SteeredApp, stop: Stop, caplog: pytest.LogCaptureFixture
) -> None:
    client = await connect(await serve(app, graceful_timeout=0))
    await turns()
    stopping = await stop()
    await client.wait_closed()
    client.close()
    await ended(stopping)
    assert serve.servers[0].drained
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


# --- Cut short by whoever stops it


async def test_a_stop_that_is_cancelled_ends_everything_but_lets_the_application_shut_down(
    serve: Serve, connect: Connect, stop: Stop
) -> None:
    heard: list[Message] = []
    hanging = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await accept_lifespan(receive, send)
            heard.append({"type": "shutdown"})
            return
        try:
            hanging.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            heard.append({"type": "cancelled"})
            raise

    client = await connect(await serve(app, graceful_timeout=GRACE))
    exchange = await client.request("GET", "/")
    await hanging.wait()
    stopping = await stop()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ended(stopping)
    await exchange.wait_closed()
    assert heard == [{"type": "cancelled"}, {"type": "shutdown"}]
    assert not serve.servers[0].drained


# --- What a client that was refused leaves behind


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_a_client_that_was_refused_and_does_not_hang_up_is_not_left_behind(
    serve: Serve, connect: Connect, app: SteeredApp, stop: Stop, clock: ManualClock
) -> None:
    client = await connect.http1(await serve(app, clock=clock, graceful_timeout=GRACE))
    exchange = await client.request_raw(b"nonsense\r\n\r\n")
    assert (await exchange.response()).status == 400
    stopping = await stop()
    clock.advance(GRACE)
    await ended(stopping)
    # `serve` fails if a connection of the server is still open, and this client is.


# --- What the operator reads


async def test_every_second_a_line_says_what_is_waited_for(
    begin: Begin, stop: Stop, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    client, exchange, call = await begin(target="/slow%0areport?secret", clock=clock, graceful_timeout=GRACE)
    host, port = call.scope["client"]
    listen(caplog)
    stopping = await stop()
    assert news(caplog) == []
    clock.advance(3)
    line = rf"waiting for 1 request (/slow\x0areport of {host}:{port} for %d s), 1 connection"
    assert news(caplog) == [line % seconds for seconds in (1, 2, 3)]
    await call.respond()
    await exchange.response()
    call.finish()
    client.close()
    await ended(stopping)
    clock.advance(3)
    assert len(news(caplog)) == 3


@pytest.mark.parametrize("carrier", [HTTP2_CLEAR], ids=str)
async def test_of_many_requests_a_few_are_named(
    begin: Begin, stop: Stop, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    client, _, call = await begin(clock=clock, graceful_timeout=GRACE)
    calls = [call, *[(await begin.on(client, target=f"/{number}")).call for number in range(4)]]
    listen(caplog)
    stopping = await stop()
    clock.advance(1)
    (line,) = news(caplog)
    assert line.startswith("waiting for 5 requests (/ of 127.0.0.1:")
    assert line.endswith(", ...), 1 connection")
    assert line.count(" of ") == 3
    for call in calls:
        await call.respond()
        call.finish()
    await client.wait_closed()
    client.close()
    await ended(stopping)


async def test_the_end_of_the_grace_is_a_warning(
    begin: Begin, stop: Stop, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    client, exchange, _ = await begin(clock=clock, graceful_timeout=GRACE)
    stopping = await stop()
    await pass_grace(clock)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.startswith("after 30 seconds still 1 request (/ of 127.0.0.1:")
    assert warning.endswith(", 1 connection: cancelling")
    await exchange.response()
    client.close()
    await ended(stopping)


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_a_slow_shutdown_of_the_application_is_reported_too(
    serve: Serve, stop: Stop, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    app = SteeredApp(steer_lifespan=True)
    starting = asyncio.ensure_future(serve(app, clock=clock))
    lifespan = await app.next_call()
    await lifespan.receive()
    await lifespan.send({"type": "lifespan.startup.complete"})
    await starting
    listen(caplog)
    stopping = await stop()
    assert await lifespan.receive() == {"type": "lifespan.shutdown"}
    clock.advance(20)
    assert news(caplog) == ["waiting for the application's shutdown"] * 20
    await lifespan.send({"type": "lifespan.shutdown.complete"})
    lifespan.finish()
    await ended(stopping)
