"""Work after the response: it holds up neither the connection nor its next request."""

import asyncio

import pytest

from support.conversation import Begin, complaints, settled
from support.serving import Serve

DISCONNECT = {"type": "http.disconnect"}


async def test_the_next_request_does_not_wait_for_work_after_the_response(begin: Begin) -> None:
    client, exchange, first = await begin()
    await first.respond(body=b"first")
    assert (await exchange.response()).body == b"first"
    for number in range(3):
        _, exchange, call = await begin.on(client)
        await call.respond(body=b"%d" % number)
        assert (await exchange.response()).body == b"%d" % number

    assert first.outcome is None


async def test_after_its_response_an_application_has_no_more_say(begin: Begin) -> None:
    """What it receives and sends concerns request 1, never the request that now has the connection."""
    client, exchange, first = await begin("POST", "/", content=b"first")
    await first.respond(body=b"answer to the first")
    await exchange.wait_closed()
    _, exchange, second = await begin.on(client, "POST", "/", content=b"second", end=False)
    assert await first.receive() == DISCONNECT
    await first.respond(500, body=b"what?")
    first.crash(RuntimeError())
    await first.cancelled_or_done()
    await exchange.send(b" more", end=True)

    assert await second.receive_body() == b"second more"
    await second.respond(body=b"answer to the second")
    assert (await exchange.response()).body == b"answer to the second"


async def test_a_client_may_leave_while_work_goes_on(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    client, exchange, call = await begin()
    await call.respond()
    await exchange.wait_closed()
    client.abandon()
    await settled(lambda: None)
    assert call.outcome is None
    call.finish()

    assert await call.cancelled_or_done() == "done"
    assert complaints(caplog) == []


async def test_a_failure_of_it_is_logged(begin: Begin, caplog: pytest.LogCaptureFixture) -> None:
    _, exchange, call = await begin()
    await call.respond()
    assert (await exchange.response()).complete
    call.crash(RuntimeError())
    await call.cancelled_or_done()
    await settled(lambda: None)

    assert complaints(caplog) == ["GET /: exception in the application"]


async def test_shutdown_waits_for_it(begin: Begin, serve: Serve) -> None:
    client, exchange, call = await begin()
    await call.respond()
    await exchange.wait_closed()
    stopping = asyncio.create_task(serve.servers[0].stop())
    await client.wait_closed()
    assert not stopping.done()
    call.finish()
    client.close()

    await stopping
    assert call.outcome == "done"
