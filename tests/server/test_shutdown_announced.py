"""Who hears of a shutdown before it begins: load balancers, by its delay, and applications, by an event."""

import asyncio

import pytest

from support.carrier import HTTP1_CLEAR, HTTP2_CLEAR
from support.clock import ManualClock
from support.conversation import Begin
from support.serving import Connect
from support.steered_app import SteeredApp
from support.stopping import GRACE, Stop, ended, until_disconnect
from support.talk import BeginTalk
from support.waiting import stays_pending, turns, within

# --- --drain-delay


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
async def test_everything_goes_on_for_the_time_of_the_delay(
    begin: Begin,
    connect: Connect,
    app: SteeredApp,
    stop: Stop,
    clock: ManualClock,
) -> None:
    client, exchange, call = await begin(clock=clock, drain_delay=5)
    await call.respond()
    await exchange.response()
    call.finish()
    stopping = await stop()
    clients = (client, await connect(begin.url))  # a connection that was there, and a new one
    for each in clients:
        another = await each.request("GET", "/")
        call = await app.next_call()
        await call.respond()
        response = await another.response()
        assert response.field("connection") is None
        call.finish()
    clock.advance(4)
    assert await stays_pending(stopping)
    clock.advance(1)
    for each in clients:
        await each.wait_closed()
        each.close()
    await ended(stopping)


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_a_stop_that_is_cancelled_in_the_delay_ends_everything_at_once(
    begin: Begin, stop: Stop, clock: ManualClock
) -> None:
    client, _, call = await begin(clock=clock, drain_delay=5, graceful_timeout=GRACE)
    stopping = await stop()
    stopping.cancel()
    await turns()
    clock.advance(1)  # what applications may take to end that were told to
    assert await call.cancelled_or_done() == "cancelled"
    with pytest.raises(asyncio.CancelledError):
        await stopping
    await client.wait_closed()


# --- The extension alphorn.shutdown


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
async def test_the_event_is_set_when_the_server_begins_to_end(
    begin: Begin, stop: Stop, clock: ManualClock
) -> None:
    client, exchange, call = await begin(
        clock=clock, shutdown_event=True, drain_delay=5, graceful_timeout=GRACE
    )
    event = call.scope["extensions"]["alphorn.shutdown"]["event"]
    stopping = await stop()
    assert not event.is_set(), "a client that came back now would come back here"
    clock.advance(5)
    async with within("the event"):
        await event.wait()
    receiving = asyncio.ensure_future(until_disconnect(call))
    assert await stays_pending(receiving), "the request may go on"
    await call.respond(body=b"the last words")
    call.finish()
    assert (await exchange.response()).body == b"the last words"
    await client.wait_closed()
    client.close()
    await ended(stopping)
    await receiving


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
async def test_a_websocket_has_the_event_too(talk: BeginTalk, stop: Stop) -> None:
    websocket, call = await talk(shutdown_event=True)
    event = call.scope["extensions"]["alphorn.shutdown"]["event"]
    stopping = await stop()
    assert event.is_set()
    await websocket.receive()
    call.finish()
    websocket.exchange._client.close()
    await ended(stopping)


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_nobody_has_the_event_who_did_not_ask_for_it(begin: Begin) -> None:
    _, _, call = await begin()
    assert "alphorn.shutdown" not in call.scope["extensions"]
