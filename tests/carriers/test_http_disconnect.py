"""Clients that leave: `receive()` says so for ever, `send()` raises an OSError, nobody complains."""

import asyncio
import contextlib
import logging
from typing import Any

import h2.errors
import pytest

from alphorn.core.errors import Disconnected
from support.carrier import HTTP1_CLEAR, HTTP2_CLEAR, HTTP2_TLS
from support.conversation import Begin, complaints, settled
from support.frames import ANY, POST, Data, Headers, RstStream
from support.http1_client import Http1Client
from support.serving import Connect, Serve
from support.steered_app import Call, SteeredApp
from support.waiting import turns, until

over_http2 = pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)

DISCONNECT = {"type": "http.disconnect"}
BODY = {"type": "http.response.body", "body": b"x" * 1000, "more_body": True}


async def told(call: Call) -> None:
    """Wait until the application has been told that its client has gone."""
    await call.receive_body()
    assert await call.receive() == DISCONNECT


async def test_receive_says_that_the_client_has_gone_and_goes_on_saying_it(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.receive_body()
    receiving = asyncio.ensure_future(call.receive())
    await settled(receiving.done)
    assert not receiving.done()
    await exchange.abandon()

    assert await receiving == DISCONNECT
    assert [await call.receive() for _ in range(3)] == [DISCONNECT] * 3


async def test_every_receive_that_waits_is_told(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.receive_body()
    receiving = [asyncio.ensure_future(call.receive()) for _ in range(3)]
    await settled(lambda: [task.done() for task in receiving])
    await exchange.abandon()

    assert await asyncio.gather(*receiving) == [DISCONNECT] * 3


async def test_a_client_that_closes_its_connection_politely_has_gone_as_well(begin: Begin) -> None:
    client, _, call = await begin()
    await call.receive_body()
    client.close()

    assert await call.receive() == DISCONNECT


async def test_a_client_that_leaves_in_the_middle_of_its_content_has_not_ended_it(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", content=b"half", end=False)
    assert await call.receive() == {"type": "http.request", "body": b"half", "more_body": True}
    await exchange.abandon()

    assert await call.receive() == DISCONNECT


async def test_content_that_arrived_before_the_client_left_is_delivered_first(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", content=b"half", end=False)
    first = await call.receive()
    waiting = asyncio.ensure_future(call.receive())
    await exchange.send(b"more")
    assert [first["body"], (await waiting)["body"]] == [b"half", b"more"]
    await exchange.abandon()

    assert await call.receive() == DISCONNECT


@pytest.mark.parametrize("started", [False, True])
async def test_send_raises_an_os_error_once_the_client_has_gone(begin: Begin, started: bool) -> None:
    """Defect 11: on every protocol (ASGI www 2.4)."""
    _, exchange, call = await begin()
    if started:
        await call.start()
        await call.body(b"begun", more=True)
    await exchange.abandon()
    await told(call)

    for _ in range(2):
        with pytest.raises(OSError, match="the client has gone") as raised:
            await call.send(BODY if started else {"type": "http.response.start", "status": 200})
        assert isinstance(raised.value, Disconnected)


async def test_an_application_that_only_sends_learns_it_from_send(begin: Begin) -> None:
    """Defect 11: one that never calls receive() must not send for ever."""
    _, exchange, call = await begin()

    async def send_for_ever() -> None:
        await call.start()
        while True:
            await call.send(BODY)

    sending = asyncio.ensure_future(send_for_ever())
    assert await exchange.read_exactly(1000) == BODY["body"]
    await exchange.abandon()
    with pytest.raises(Disconnected):
        await sending


async def test_a_send_that_waits_for_room_is_woken(begin: Begin) -> None:
    _, exchange, call = await begin(receive_window=1000)
    await call.start()
    sent = 0

    async def send_for_ever() -> None:
        nonlocal sent
        while True:
            await call.send(BODY)
            sent += 1

    sending = asyncio.ensure_future(send_for_ever())
    await settled(lambda: sent)
    await exchange.abandon()

    with pytest.raises(Disconnected):
        await sending


async def test_the_servers_own_error_is_not_logged_when_it_leaks(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    _, exchange, call = await begin()
    await exchange.abandon()
    await told(call)
    with pytest.raises(Disconnected) as raised:
        await call.start()
    call.crash(raised.value)
    await call.cancelled_or_done()
    await settled(lambda: None)

    assert complaints(caplog) == []


@pytest.mark.parametrize("in_the_body", [False, True])
async def test_an_application_that_stops_when_its_client_has_gone_is_not_complained_about(
    begin: Begin, caplog: pytest.LogCaptureFixture, in_the_body: bool
) -> None:
    _, exchange, call = await begin()
    if in_the_body:
        await call.start()
        await call.body(b"begun", more=True)
    await exchange.abandon()
    await told(call)
    call.finish()
    await call.cancelled_or_done()
    await settled(lambda: None)

    assert complaints(caplog) == []


async def test_an_application_whose_client_has_gone_may_take_its_time(begin: Begin) -> None:
    _, exchange, call = await begin()
    await exchange.abandon()
    await told(call)
    await settled(lambda: None)

    assert call.outcome is None


async def test_a_request_that_the_client_gave_up_is_logged_without_a_status(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "alphorn.access")
    _, exchange, call = await begin("GET", "/given-up")
    await exchange.abandon()
    await told(call)

    (line,) = [record.getMessage() for record in caplog.records if record.name == "alphorn.access"]
    assert "GET /given-up" in line
    assert " - 0 " in line


async def test_after_the_response_the_client_may_leave(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    client, exchange, call = await begin()
    await call.respond(body=b"all")
    assert (await exchange.response()).complete
    client.abandon()
    await settled(lambda: None)
    await call.body(b"ignored")
    assert await call.receive() == DISCONNECT
    call.finish()
    await call.cancelled_or_done()

    assert complaints(caplog) == []


@pytest.mark.parametrize("count", range(8))
async def test_a_client_that_leaves_at_any_moment_of_its_answer_is_forgotten(
    begin: Begin, serve: Serve, count: int
) -> None:
    """TLS hears of the end some turns of the loop before its protocol, which may have changed meanwhile."""
    client, exchange, call = await begin()
    await call.respond(body=b"first")
    await exchange.wait_closed()
    _, _, call = await begin.on(client)
    client.close()
    await turns(count)
    call.finish()

    running: Any = serve.servers[0]._running
    await until(lambda: not running._worker.connections, "the server to forget the connection")


async def test_a_client_whose_leaving_goes_unnoticed_is_no_obstacle_to_shutdown(
    begin: Begin, serve: Serve
) -> None:
    """Over HTTP/1.1, nobody reads a connection whose content waits for the application."""
    client, exchange, call = await begin("POST", "/", end=False, stream_window=1000)
    await exchange.send(b"x" * 1000)
    await call.receive()
    await exchange.send(b"x" * 1000)
    await settled(lambda: None)
    client.abandon()
    call.finish()
    await serve.servers[0].stop()

    assert call.outcome == "done"


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_a_client_that_has_only_closed_its_sending_side_still_gets_its_answer(begin: Begin) -> None:
    client, exchange, call = await begin()
    assert isinstance(client, Http1Client)
    await call.receive_body()
    await client.half_close()
    assert await call.receive() == DISCONNECT
    await call.start()
    await call.body(b"still ", more=True)
    await call.body(b"here")

    response = await exchange.response()
    assert (response.body, response.complete) == (b"still here", True)


@over_http2
async def test_a_reset_stream_leaves_its_siblings_alone(begin: Begin) -> None:
    client, exchange, given_up = await begin("POST", "/", content=b"half", end=False)
    _, sibling, call = await begin.on(client, "POST", "/", content=b"one", end=False)
    await given_up.receive()
    await exchange.abandon()
    assert await given_up.receive() == DISCONNECT
    await sibling.send(b"two", end=True)

    assert await call.receive_body() == b"onetwo"
    await call.respond(body=b"unharmed")
    assert (await sibling.response()).body == b"unharmed"


@over_http2
async def test_a_connection_that_ends_tells_all_its_streams(begin: Begin) -> None:
    client, _, first = await begin()
    _, _, second = await begin.on(client)
    client.abandon()

    await asyncio.gather(told(first), told(second))


@pytest.mark.parametrize("content", [b"late", b"x" * 16000], ids=["little", "much"])
@over_http2
async def test_late_data_on_a_stream_that_has_ended_harms_nobody(
    serve: Serve, connect: Connect, app: SteeredApp, content: bytes
) -> None:
    """Defect 14: DATA that was under way when the server ended the stream is dropped and credited."""
    peer = await connect.frames(await serve(app, max_drain=0))
    await peer.sends(Headers(1, POST), Headers(3, POST))
    await (await app.next_call()).respond(413)
    sibling = await app.next_call()
    await peer.expects(Headers(1, [(b":status", b"413")], end_stream=True))
    await peer.expects(RstStream(1, h2.errors.ErrorCodes.NO_ERROR))

    for _ in range(10):
        await peer.sends(Data(1, content))
    await peer.sends(Data(1, content, end_stream=True), Data(3, b"x", end_stream=True))
    assert await sibling.receive_body() == b"x"
    await sibling.respond(body=b"unharmed")
    await peer.expects(Headers(3, [(b":status", b"200")]))
    await peer.expects(Data(3, b"unharmed", end_stream=ANY))
    await peer.expects_nothing()


@over_http2
async def test_a_late_answer_on_a_stream_that_the_client_has_reset_harms_nobody(begin: Begin) -> None:
    client, exchange, call = await begin("POST", "/", content=b"half", end=False)
    await call.receive()
    await exchange.abandon()
    with contextlib.suppress(Disconnected):
        await call.respond(body=b"late answer")
    _, sibling, call = await begin.on(client)
    await call.respond(body=b"unharmed")

    assert (await sibling.response()).body == b"unharmed"
