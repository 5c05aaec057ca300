"""The request as events: content in pieces, its end exactly once, then waiting for the disconnect."""

import asyncio
from typing import Any

import pytest

from alphorn.core.asgi import Scope, Send
from support.carrier import HTTP1_CLEAR, HTTP1_TLS, Carrier
from support.conversation import Begin, settled
from support.serving import Connect, Serve
from support.steered_app import SteeredApp
from support.waiting import until

over_http1 = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)

NOTHING = {"type": "http.request", "body": b"", "more_body": False}
DISCONNECT = {"type": "http.disconnect"}


async def test_a_request_without_content_is_one_empty_event(begin: Begin) -> None:
    _, _, call = await begin()

    assert await call.receive() == NOTHING


async def test_the_end_of_a_request_without_content_is_there_before_the_application_asks(
    serve: Serve, connect: Connect
) -> None:
    events: list[object] = []

    async def app(_scope: Scope, receive: Any, _send: Send) -> None:
        waiting = receive()
        with pytest.raises(StopIteration) as returned:
            waiting.send(None)  # a coroutine that suspends would yield a future here
        events.append(returned.value.value)

    client = await connect(await serve(app, lifespan="off"))
    exchange = await client.request("GET", "/")
    await exchange.response()

    assert events == [NOTHING]


async def test_content_that_is_all_there_is_one_event(begin: Begin) -> None:
    _, _, call = await begin("POST", "/", content=b"hello")

    assert await call.receive() == {"type": "http.request", "body": b"hello", "more_body": False}


async def test_content_is_delivered_as_it_arrives(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", content=b"one", end=False)

    assert await call.receive() == {"type": "http.request", "body": b"one", "more_body": True}
    for piece in (b"two", b"three"):
        receiving = asyncio.ensure_future(call.receive())
        await settled(receiving.done)
        assert not receiving.done()
        await exchange.send(piece)
        assert await receiving == {"type": "http.request", "body": piece, "more_body": True}
    await exchange.send(b"four", end=True)
    assert await call.receive_body() == b"four"


async def test_content_that_waited_arrives_at_once(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", content=b"one", end=False)
    await exchange.send(b"two")
    await exchange.send(b"three", end=True)
    arrived = call._receive.__self__  # type: ignore[attr-defined]
    await until(lambda: arrived._content_ended, "the end of the request")

    assert await call.receive() == {"type": "http.request", "body": b"onetwothree", "more_body": False}


async def test_an_end_that_comes_alone_is_an_empty_event(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", content=b"all", end=False)
    assert await call.receive() == {"type": "http.request", "body": b"all", "more_body": True}
    await exchange.send_end()

    assert await call.receive() == NOTHING


async def test_empty_content_that_ends_later_is_one_event(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", end=False)
    receiving = asyncio.ensure_future(call.receive())
    await settled(receiving.done)
    assert not receiving.done()
    await exchange.send_end()

    assert await receiving == NOTHING


@pytest.mark.parametrize("content", [None, b"hello"], ids=["GET", "POST"])
async def test_after_the_end_receive_waits_until_the_response_is_complete(
    begin: Begin, content: bytes | None
) -> None:
    _, exchange, call = await begin("POST" if content else "GET", "/", content=content)
    await call.receive_body()
    receiving = asyncio.ensure_future(call.receive())
    await call.start()
    await call.body(b"half", more=True)
    await exchange.read_exactly(4)
    assert not receiving.done()
    await call.body(b"whole")

    assert await receiving == DISCONNECT
    assert [await call.receive(), await call.receive()] == [DISCONNECT, DISCONNECT]
    assert (await exchange.response()).complete


async def test_content_that_nobody_received_is_gone_once_the_response_is_complete(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", content=b"unread")
    await call.respond(body=b"did not look")

    assert await call.receive() == DISCONNECT
    assert (await exchange.response()).body == b"did not look"


async def test_trailers_of_a_request_are_not_content(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", content=b"hello", end=False)
    await exchange.send_end([(b"x-checksum", b"abc")])

    assert await call.receive_body() == b"hello"
    await call.respond(204)
    assert (await exchange.response()).status == 204


async def test_a_large_upload_arrives_whole_and_in_order(begin: Begin) -> None:
    content = b"".join(number.to_bytes(4, "big") for number in range(256 * 1024))
    _, exchange, call = await begin("PUT", "/", end=False)
    receiving = asyncio.ensure_future(call.receive_body())
    await exchange.send(content, end=True)

    assert await receiving == content


async def test_a_client_that_expects_100_is_asked_when_the_application_waits(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", [(b"expect", b"100-continue")], end=False)
    receiving = asyncio.ensure_future(call.receive())
    assert (await exchange.next_informational()).status == 100
    await exchange.send(b"as you wish", end=True)

    assert (await receiving)["body"] == b"as you wish"
    await call.respond(body=b"thanks")
    response = await exchange.response()
    assert (response.status, response.body, len(response.informational)) == (200, b"thanks", 1)


async def test_a_client_that_expects_100_is_not_asked_by_an_application_that_refuses(begin: Begin) -> None:
    _, exchange, call = await begin(
        "POST", "/", [(b"expect", b"100-continue"), (b"content-length", b"1000000")], end=False
    )
    await call.respond(413, body=b"too much")

    response = await exchange.response()
    assert (response.status, response.body, response.informational) == (413, b"too much", [])


async def test_content_that_nobody_reads_does_not_wear_the_connection_out(begin: Begin) -> None:
    """Twenty times what a connection may hold is refused unread, and the connection goes on."""
    client, exchange, call = await begin(
        "POST", "/", content=b"x" * 65535, stream_window=65535, connection_window=65535
    )
    for _ in range(20):
        await call.respond(404)
        assert (await exchange.response()).status == 404
        call.finish()
        _, exchange, call = await begin.on(client, "POST", "/", content=b"x" * 65535)
    assert await call.receive_body() == b"x" * 65535


async def test_a_request_that_is_answered_half_read_makes_room_for_the_next(begin: Begin) -> None:
    client, exchange, call = await begin(
        "POST", "/", content=b"x" * 1000, stream_window=65535, connection_window=65535
    )
    assert len((await call.receive())["body"]) > 0
    await call.respond()
    await exchange.wait_closed()
    _, _, call = await begin.on(client, "POST", "/", content=b"second")

    assert await call.receive_body() == b"second"


@over_http1
async def test_pipelined_requests_are_answered_in_their_order(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect.http1(await serve(app))
    first = await client.request("POST", "/first", content=b"one")
    second = await client.request("POST", "/second", content=b"two")
    call = await app.next_call()
    assert (call.scope["path"], await call.receive_body()) == ("/first", b"one")
    assert not app.called_again
    await call.respond(body=b"1")
    call = await app.next_call()
    assert (call.scope["path"], await call.receive_body()) == ("/second", b"two")
    await call.respond(body=b"2")

    assert [(await exchange.response()).body for exchange in (first, second)] == [b"1", b"2"]


async def test_many_requests_share_a_connection(begin: Begin, carrier: Carrier) -> None:
    client, exchange, call = await begin("GET", "/0")
    for number in range(1, 30):
        await call.respond(body=call.scope["raw_path"])
        call.finish()
        assert (await exchange.response()).body == b"/%d" % (number - 1)
        _, exchange, call = await begin.on(client, "GET", f"/{number}")
        assert call.scope["http_version"] == carrier.http_version
