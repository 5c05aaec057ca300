"""`http.response.trailers`: fields behind the body, to those who said that they want them."""

import asyncio
from typing import Any

import pytest

from alphorn.core.errors import UnexpectedMessage
from support.carrier import HTTP1_CLEAR, HTTP1_TLS, Carrier
from support.conversation import Begin, settled
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

WANTED = [(b"te", b"trailers")]
CHECKSUM = (b"x-checksum", b"abc")


def trailers(*fields: Any, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.trailers", "headers": list(fields), "more_trailers": more}


async def test_trailers_follow_the_body_of_a_client_that_asked_for_them(begin: Begin) -> None:
    _, exchange, call = await begin("GET", "/", WANTED)
    await call.start(200, [(b"trailer", b"x-checksum, grpc-status")], trailers=True)
    await call.body(b"one", more=True)
    await call.body(b"two")
    await call.send(trailers(CHECKSUM, (b"Grpc-Status", b"0")))

    response = await exchange.response()
    assert (response.body, response.complete) == (b"onetwo", True)
    assert response.trailers == [CHECKSUM, (b"grpc-status", b"0")]
    assert response.field("trailer") == b"x-checksum, grpc-status"


@pytest.mark.parametrize("te", [b"trailers, deflate;q=0.5", b"gzip,Trailers", b"trailers;q=1"])
@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
async def test_trailers_may_be_one_wish_of_several(begin: Begin, te: bytes) -> None:
    """RFC 9110, 10.1.4; over HTTP/2, `trailers` stands alone (RFC 9113, 8.2.2)."""
    _, exchange, call = await begin("GET", "/", [(b"te", te)])
    await call.start(200, trailers=True)
    await call.body(b"body")
    await call.send(trailers(CHECKSUM))

    assert (await exchange.response()).trailers == [CHECKSUM]


async def test_a_client_that_did_not_ask_gets_no_trailers_but_a_complete_response(begin: Begin) -> None:
    client, exchange, call = await begin()
    await call.start(200, trailers=True)
    await call.body(b"body")
    await call.send(trailers(CHECKSUM))

    response = await exchange.response()
    assert (response.body, response.complete, response.trailers) == (b"body", True, [])
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")
    assert (await exchange.response()).body == b"next"


async def test_the_response_ends_with_its_trailers_and_not_before(begin: Begin) -> None:
    _, exchange, call = await begin("GET", "/", WANTED)
    await call.start(200, trailers=True)
    await call.body(b"body")
    assert await exchange.read_exactly(4) == b"body"
    reading = asyncio.ensure_future(exchange.read())
    await settled(reading.done)
    assert not reading.done()
    await call.send(trailers(CHECKSUM))

    assert await reading == b""
    assert (exchange.complete, exchange.trailers) == (True, [CHECKSUM])


async def test_trailers_may_come_in_several_messages(begin: Begin) -> None:
    _, exchange, call = await begin("GET", "/", WANTED)
    await call.start(200, trailers=True)
    await call.body(b"body")
    await call.send(trailers((b"x-one", b"1"), more=True))
    await call.send(trailers(more=True))
    await call.send({"type": "http.response.trailers", "headers": [(b"x-two", b"2")]})

    assert (await exchange.response()).trailers == [(b"x-one", b"1"), (b"x-two", b"2")]


async def test_empty_trailers_end_the_response(begin: Begin) -> None:
    _, exchange, call = await begin("GET", "/", WANTED)
    await call.start(200, trailers=True)
    await call.body(b"body")
    await call.send({"type": "http.response.trailers"})

    response = await exchange.response()
    assert (response.body, response.complete, response.trailers) == (b"body", True, [])


async def test_trailers_of_an_empty_body_arrive(begin: Begin) -> None:
    """As a failed gRPC call has them."""
    _, exchange, call = await begin("POST", "/", WANTED, b"")
    await call.start(200, trailers=True)
    await call.body()
    await call.send(trailers((b"grpc-status", b"5")))

    response = await exchange.response()
    assert (response.body, response.complete, response.trailers) == (b"", True, [(b"grpc-status", b"5")])


async def test_trailers_wait_behind_a_body_that_the_client_has_not_read(begin: Begin) -> None:
    _, exchange, call = await begin("GET", "/", WANTED, receive_window=1000)
    await call.start(200, trailers=True)
    await call.body(b"x" * 50_000)
    await call.send(trailers(CHECKSUM))
    call.finish()

    response = await exchange.response()
    assert (len(response.body), response.complete, response.trailers) == (50_000, True, [CHECKSUM])


async def test_a_response_with_a_length_keeps_it(begin: Begin, carrier: Carrier) -> None:
    """Over HTTP/1.1 a body with a length has no place for trailers (RFC 9112, 7.1.2)."""
    _, exchange, call = await begin("GET", "/", WANTED)
    await call.start(200, [(b"content-length", b"4")], trailers=True)
    await call.body(b"body")
    await call.send(trailers(CHECKSUM))

    response = await exchange.response()
    assert (response.body, response.complete) == (b"body", True)
    assert response.trailers == ([CHECKSUM] if carrier.http_version == "2" else [])


async def test_an_answer_to_head_has_neither_body_nor_trailers(begin: Begin) -> None:
    client, exchange, call = await begin("HEAD", "/", WANTED)
    await call.start(200, trailers=True)
    await call.body(b"body")
    await call.send(trailers(CHECKSUM))

    response = await exchange.response()
    assert (response.body, response.complete, response.trailers) == (b"", True, [])
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")
    assert (await exchange.response()).body == b"next"


async def test_fields_about_framing_are_no_trailers(begin: Begin) -> None:
    """RFC 9110, 6.5.1: what frames or routes a message must be known before its content."""
    _, exchange, call = await begin("GET", "/", WANTED)
    await call.start(200, trailers=True)
    await call.body(b"body")
    names = (b"content-length", b"transfer-encoding", b"host", b"trailer", b"connection", b"te")
    await call.send(trailers(*((name, b"5") for name in names), CHECKSUM))

    assert (await exchange.response()).trailers == [CHECKSUM]


@pytest.mark.parametrize(
    "field", [(b"x", b"a\r\nb"), (b"x\r\n", b"y"), ("x", b"y"), (b"x", "y"), (b":status", b"200"), None]
)
async def test_trailers_that_cannot_be_sent_raise_and_can_be_mended(begin: Begin, field: Any) -> None:
    _, exchange, call = await begin("GET", "/", WANTED)
    await call.start(200, trailers=True)
    await call.body(b"body")
    with pytest.raises(UnexpectedMessage):
        await call.send(trailers(CHECKSUM, field))
    await call.send(trailers(CHECKSUM))

    assert (await exchange.response()).trailers == [CHECKSUM]


async def test_trailers_that_were_not_announced_are_refused(begin: Begin) -> None:
    _, exchange, call = await begin("GET", "/", WANTED)
    await call.start()
    await call.body(b"half", more=True)
    with pytest.raises(UnexpectedMessage, match="trailers' while the response is in its body"):
        await call.send(trailers(CHECKSUM))
    await call.body(b"whole")

    assert (await exchange.response()).body == b"halfwhole"


async def test_more_body_after_its_end_is_refused_while_trailers_are_awaited(begin: Begin) -> None:
    _, exchange, call = await begin("GET", "/", WANTED)
    await call.start(200, trailers=True)
    await call.body(b"body")
    with pytest.raises(UnexpectedMessage, match=r"waiting for its trailers; legal: http\.response\.trailers"):
        await call.body(b"more", more=True)
    await call.send(trailers(CHECKSUM))

    assert (await exchange.response()).body == b"body"


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
async def test_http_1_0_gets_no_trailers_but_its_response(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect.http1(await serve(app))
    exchange = await client.request_raw(b"GET / HTTP/1.0\r\nTE: trailers\r\n\r\n")
    call = await app.next_call()
    await call.start(200, trailers=True)
    await call.body(b"body")
    await call.send(trailers(CHECKSUM))

    response = await exchange.response()
    assert (response.body, response.complete, response.trailers) == (b"body", True, [])
