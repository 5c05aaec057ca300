"""The limits of a request, as its client and its application see them; what is peculiar to a wire is tested with it."""

import asyncio
from typing import Any

import pytest

from alphorn.core.errors import Disconnected
from support.clock import ManualClock
from support.conversation import Begin, settled
from support.serving import Serve

PERIOD = 10
SLOW: dict[str, Any] = {"body_timeout": PERIOD, "body_min_rate": 100}
DISCONNECT = {"type": "http.disconnect"}


async def test_content_that_comes_too_slowly_is_answered_408_and_the_application_is_told(
    begin: Begin, clock: ManualClock, serve: Serve
) -> None:
    _, exchange, call = await begin("POST", content=b"x", end=False, clock=clock, **SLOW)
    assert (await call.receive())["body"] == b"x"
    waiting = asyncio.ensure_future(call.receive())
    await settled(waiting.done)
    clock.advance(PERIOD + 1)
    assert (await exchange.response()).status == 408
    assert await waiting == DISCONNECT
    with pytest.raises(Disconnected):
        await call.start()
    assert serve.servers[0].limits_hit == {"body_min_rate": 1}


async def test_an_application_that_takes_its_time_is_not_the_fault_of_its_client(
    begin: Begin, clock: ManualClock
) -> None:
    _, exchange, call = await begin("POST", content=b"x", end=False, clock=clock, **SLOW)
    clock.advance(10 * PERIOD)
    await call.receive()
    clock.advance(10 * PERIOD)
    await exchange.send_end()
    assert await call.receive_body() == b""
    await call.respond(body=b"at last")
    assert (await exchange.response()).body == b"at last"


async def test_content_announced_as_too_large_is_answered_413_without_an_application(
    begin: Begin, serve: Serve
) -> None:
    client, exchange, call = await begin(content=b"12345", max_body=5)
    assert await call.receive_body() == b"12345"
    await call.respond()
    await exchange.response()
    exchange = await client.request("POST", "/", [(b"content-length", b"6")], end=False)
    assert (await exchange.response()).status == 413
    assert serve.servers[0].limits_hit == {"max_body": 1}


async def test_content_that_becomes_too_large_is_answered_413_and_the_application_is_told(
    begin: Begin, serve: Serve
) -> None:
    _, exchange, call = await begin("POST", content=b"123", end=False, max_body=5)
    assert (await call.receive())["body"] == b"123"
    await exchange.send(b"456")
    assert (await exchange.response()).status == 413
    assert await call.receive() == DISCONNECT
    assert serve.servers[0].limits_hit == {"max_body": 1}


async def test_content_that_becomes_too_large_cuts_an_answer_that_has_begun(begin: Begin) -> None:
    _, exchange, call = await begin("POST", content=b"123", end=False, max_body=5)
    await call.start()
    await call.body(b"half", more=True)
    assert await exchange.read_chunk() == b"half"
    await exchange.send(b"456")
    await exchange.wait_closed()
    assert exchange.cut
    while await call.receive() != DISCONNECT:
        pass
