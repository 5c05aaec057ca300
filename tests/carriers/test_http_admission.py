"""More requests than may be under way: some wait for their turn, the others are told to come again."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import h2.errors
import pytest

from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, Carrier
from support.clock import ManualClock
from support.conversation import settled
from support.exchange import Client, ClientExchange
from support.serving import Connect, Serve
from support.steered_app import Call, SteeredApp
from support.waiting import turns, within
from support.websocket_client import open_websocket

over_http1 = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)

QUEUE_SECONDS = 5.0
SETTINGS = {"max_in_flight": 2, "max_queued": 1, "queue_timeout": QUEUE_SECONDS}


class Crowd:
    """A server with room for two requests and one that waits, and its clients, each on a connection of its own."""

    def __init__(self, url: str, serve: Serve, connect: Connect, app: SteeredApp) -> None:
        self.url = url
        self._serve = serve
        self._connect = connect
        self._app = app
        running = serve.servers[0]._running
        assert running is not None
        self.dispatcher = running._worker.dispatcher

    @property
    def hits(self) -> dict[str, int]:
        return dict(self._serve.servers[0].limits_hit)

    @property
    def waiting(self) -> int:
        """How many requests wait for their turn."""
        return len(self.dispatcher._admission.queue)

    @property
    def in_flight(self) -> int:
        return self.dispatcher._admission.in_flight

    async def begins(self) -> tuple[Client, ClientExchange, Call]:
        """Have a request that is answered when the test says so."""
        client = await self._connect(self.url)
        exchange = await client.request("GET", "/")
        return client, exchange, await self._app.next_call()

    async def waits(
        self, method: str = "GET", content: bytes | None = None, **more: Any
    ) -> tuple[Client, ClientExchange]:
        """Have a request that waits for its turn."""
        client = await self._connect(self.url)
        exchange = await client.request(method, "/waiting", content=content, **more)
        await settled(lambda: self.waiting)
        assert self.waiting == 1
        return client, exchange


@pytest.fixture
async def crowd(
    serve: Serve, connect: Connect, app: SteeredApp, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Crowd]:
    caplog.set_level(logging.INFO, "alphorn.access")
    crowd = Crowd(await serve(app, clock=clock, **SETTINGS), serve, connect, app)
    yield crowd
    async with within("everybody to end, also those whose turn comes then"):
        while crowd.in_flight:
            app.finish_all()
            await settled(lambda: crowd.in_flight)
    assert crowd.waiting == 0


async def is_refused(exchange: ClientExchange, carrier: Carrier) -> None:
    """Wait until a request has been refused in a way that says that it may be tried again."""
    if carrier.http_version == "2":
        await exchange.wait_closed()
        assert exchange.reset_code == h2.errors.ErrorCodes.REFUSED_STREAM
        return
    response = await exchange.response()
    assert response.status == 503
    assert response.field("retry-after") == b"1"
    assert response.complete


async def requested(url: str, connect: Connect, client: bytes) -> ClientExchange:
    """Make a request on a connection of its own, for a client behind a proxy."""
    return await (await connect(url)).request("GET", "/", [(b"x-forwarded-for", client)])


async def answered(call: Call, exchange: ClientExchange) -> None:
    await call.respond(body=b"hello")
    call.finish()
    assert (await exchange.response()).body == b"hello"


async def test_the_third_waits_for_its_turn_and_the_fourth_is_refused(
    crowd: Crowd, connect: Connect, carrier: Carrier, app: SteeredApp, caplog: pytest.LogCaptureFixture
) -> None:
    _, first, call = await crowd.begins()
    await crowd.begins()
    _, third = await crowd.waits()
    fourth = await (await connect(crowd.url)).request("GET", "/")
    await is_refused(fourth, carrier)
    assert len(app.calls) == 2
    assert crowd.hits == {"max_in_flight": 1}
    assert len([line for line in caplog.messages if "--max-in-flight" in line]) == 1

    await answered(call, first)
    await answered(await app.next_call(), third)
    assert len(app.calls) == 3


@pytest.mark.parametrize("politely", [True, False], ids=["closes", "resets"])
async def test_a_client_that_leaves_while_it_waits_never_starts_an_application(
    crowd: Crowd, app: SteeredApp, politely: bool
) -> None:
    _, first, call = await crowd.begins()
    await crowd.begins()
    client, third = await crowd.waits()
    if politely:
        client.close()
    else:
        await third.abandon()
    await settled(lambda: [entry[1].gone for entry in crowd.dispatcher._admission.queue])
    _, patient = await crowd.waits("HEAD")
    await answered(call, first)
    call = await app.next_call()
    assert call.scope["method"] == "HEAD"
    await call.respond()
    assert (await patient.response()).status == 200
    assert len(app.calls) == 3


async def test_who_has_waited_too_long_is_refused(
    crowd: Crowd, carrier: Carrier, app: SteeredApp, clock: ManualClock
) -> None:
    await crowd.begins()
    await crowd.begins()
    _, third = await crowd.waits()
    clock.advance(QUEUE_SECONDS - 1)
    assert crowd.waiting == 1
    clock.advance(2)
    await is_refused(third, carrier)
    assert len(app.calls) == 2
    assert crowd.hits == {"max_in_flight": 1}


async def test_a_place_is_free_when_the_application_has_ended_not_when_its_client_has_gone(
    crowd: Crowd, app: SteeredApp
) -> None:
    _, first, call = await crowd.begins()
    await crowd.begins()
    await call.receive_body()
    await first.abandon()
    assert (await call.receive())["type"] == "http.disconnect"
    _, third = await crowd.waits()
    assert len(app.calls) == 2, "it does not care, and goes on"
    call.finish()
    await answered(await app.next_call(), third)


async def test_a_place_is_free_when_the_application_has_ended_not_when_it_has_answered(
    crowd: Crowd, app: SteeredApp
) -> None:
    _, first, call = await crowd.begins()
    await crowd.begins()
    await call.respond()
    await first.response()
    _, third = await crowd.waits()
    assert len(app.calls) == 2, "its background task goes on"
    call.finish()
    await answered(await app.next_call(), third)


async def test_one_address_leaves_places_to_others(
    serve: Serve, connect: Connect, app: SteeredApp, carrier: Carrier
) -> None:
    """With 4 places and a share of a half the third request of a client waits, and that of another does not."""
    shares: dict[str, Any] = {"max_in_flight": 4, "max_in_flight_share": 0.5, "max_queued": 1}
    url = await serve(app, trusted_proxies=("127.0.0.1",), **shares)
    first, _ = await requested(url, connect, b"192.0.2.1"), await app.next_call()
    await requested(url, connect, b"192.0.2.1")
    await app.next_call()
    waiting = await requested(url, connect, b"192.0.2.1")
    await is_refused(await requested(url, connect, b"192.0.2.1"), carrier)
    other = await requested(url, connect, b"192.0.2.2")
    await answered(await app.next_call(), other)
    assert len(app.calls) == 3

    await answered(app.calls[0], first)
    await answered(await app.next_call(), waiting)
    app.finish_all()


async def test_websockets_do_not_count(crowd: Crowd, connect: Connect, app: SteeredApp) -> None:
    await crowd.begins()
    await crowd.begins()
    for _ in range(3):
        opening = asyncio.ensure_future(open_websocket(await connect(crowd.url)))
        call = await app.next_call()
        await call.accept()
        await opening
    assert crowd.in_flight == 2
    assert not crowd.hits


async def test_what_waits_when_the_server_is_told_to_stop_has_its_turn(
    crowd: Crowd, serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    _, first, call = await crowd.begins()
    _, second, other = await crowd.begins()
    _, third = await crowd.waits()
    stopping = asyncio.ensure_future(serve.servers[0].stop())
    await settled(stopping.done)
    await answered(call, first)
    await answered(await app.next_call(), third)
    await answered(other, second)
    connect.close()
    async with within("the server to stop"):
        await stopping


async def test_what_still_waits_when_the_grace_is_over_is_refused(
    crowd: Crowd, serve: Serve, app: SteeredApp, carrier: Carrier, clock: ManualClock
) -> None:
    await crowd.begins()
    await crowd.begins()
    _, third = await crowd.waits()
    stopping = asyncio.ensure_future(serve.servers[0].stop())
    await settled(stopping.done)
    clock.advance(serve.servers[0].config.graceful_timeout)
    await is_refused(third, carrier)
    app.finish_all()
    async with within("the server to stop"):
        while not stopping.done():
            clock.advance(1)
            await turns(1)
    assert len(app.calls) == 2
    assert not crowd.in_flight


# --- The 503 of HTTP/1


@over_http1
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_after_a_refusal_the_connection_goes_on(crowd: Crowd, app: SteeredApp, method: str) -> None:
    _, first, call = await crowd.begins()
    await crowd.begins()
    client, third = await crowd.waits(method)
    crowd.dispatcher.close()
    response = await third.response()
    assert response.status == 503
    assert response.body == (b"Service Unavailable" if method == "GET" else b"")
    assert response.field("connection") is None
    await answered(call, first)
    again = await client.request("GET", "/again")
    await answered(await app.next_call(), again)


@over_http1
@pytest.mark.parametrize("length", [1000, 1_000_000], ids=["some", "much"])
async def test_an_upload_that_is_refused_gets_to_know(crowd: Crowd, app: SteeredApp, length: int) -> None:
    _, first, call = await crowd.begins()
    await crowd.begins()
    client, third = await crowd.waits("POST", fields=[(b"content-length", b"%d" % length)], end=False)
    sending = asyncio.ensure_future(third.send(bytes(length), end=True))
    crowd.dispatcher.close()
    response = await third.response()
    assert response.status == 503
    await asyncio.wait({sending})
    if length < 256 * 1024:
        await answered(call, first)
        again = await client.request("GET", "/again")
        await answered(await app.next_call(), again)
    else:
        assert response.field("connection") == b"close"
        sending.exception()


@over_http1
async def test_whoever_expects_100_is_told_503_instead(crowd: Crowd) -> None:
    await crowd.begins()
    await crowd.begins()
    fields = [(b"content-length", b"5"), (b"expect", b"100-continue")]
    _, third = await crowd.waits("POST", fields=fields, end=False)
    crowd.dispatcher.close()
    response = await third.response()
    assert response.status == 503
    assert response.informational == []
    assert response.field("connection") == b"close"


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
async def test_a_refusal_is_in_the_access_log(
    crowd: Crowd, connect: Connect, carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    await crowd.begins()
    await crowd.begins()
    await crowd.waits()
    fourth = await (await connect(crowd.url)).request("GET", "/fourth")
    await is_refused(fourth, carrier)
    lines = [record.getMessage() for record in caplog.records if record.name == "alphorn.access"]
    (line,) = [line for line in lines if "/fourth" in line]
    assert ('HTTP/1.1" 503 19 ' if carrier.http_version == "1.1" else 'HTTP/2" - 0 ') in line
