"""The response as events: the head is held, everything is framed, nothing incorrect reaches the wire."""

import asyncio
import contextlib
from typing import Any

import pytest

from alphorn.core.errors import UnexpectedMessage
from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, HTTP2_TLS, Carrier
from support.clock import ManualClock
from support.conversation import Begin, complaints, settled
from support.exchange import Head
from support.frames import ANY, GET, Continuation, Goaway, HeadersPart
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

over_http1 = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
over_http2 = pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)

SERVERS_OWN = {b"date", b"server", b"content-length", b"transfer-encoding", b"connection"}


def fields_of_application(head: Head) -> list[tuple[bytes, bytes]]:
    return [field for field in head.fields if field[0] not in SERVERS_OWN]


async def test_a_response_has_the_status_the_fields_and_the_body_of_the_application(begin: Begin) -> None:
    _, exchange, call = await begin()
    fields = [(b"x-b", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-a", b""), (b"x-b", b"3")]
    await call.respond(418, fields, b"short and stout")

    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (418, b"short and stout", True)
    assert fields_of_application(response) == fields


@pytest.mark.parametrize("status", [200, 226, 299, 300, 451, 499, 599, 999])
async def test_any_final_status_is_passed_on(begin: Begin, status: int) -> None:
    _, exchange, call = await begin()
    await call.respond(status, body=b"x")

    assert (await exchange.response()).status == status


async def test_the_head_is_held_until_the_first_body_message(begin: Begin) -> None:
    _, exchange, call = await begin()
    reading = asyncio.ensure_future(exchange.head())
    await call.start(201)
    await settled(reading.done)
    assert not reading.done()
    await call.body(b"", more=True)

    assert (await reading).status == 201
    await call.body()


async def test_headers_and_body_are_optional(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.send({"type": "http.response.start", "status": 200})
    await call.send({"type": "http.response.body"})

    response = await exchange.response()
    assert (response.body, response.complete, response.field("content-length")) == (b"", True, b"0")


async def test_headers_may_be_any_iterable_of_pairs(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.start(200, ([name, b"1"] for name in (b"x-one", b"x-two")))  # type: ignore[arg-type]
    await call.body()

    assert fields_of_application(await exchange.response()) == [(b"x-one", b"1"), (b"x-two", b"1")]


async def test_names_are_sent_in_lower_case_and_values_without_space_around_them(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.respond(200, [(b"X-Name", b"  a b\t")])

    assert fields_of_application(await exchange.response()) == [(b"x-name", b"a b")]


async def test_date_and_server_are_the_applications_if_it_says_so(begin: Begin) -> None:
    client, exchange, call = await begin()
    await call.respond()
    first = await exchange.response()
    assert first.field("server") == b"alphorn"
    assert (first.field("date") or b"").endswith(b" GMT")
    _, exchange, call = await begin.on(client)
    await call.respond(200, [(b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT"), (b"Server", b"mine")])

    second = await exchange.response()
    assert second.field("server") == b"mine"
    assert second.field("date") == b"Sun, 06 Nov 1994 08:49:37 GMT"


async def test_the_server_can_be_told_not_to_name_itself(begin: Begin) -> None:
    _, exchange, call = await begin(server_header="")
    await call.respond()

    assert (await exchange.response()).field("server") is None


async def test_a_body_in_one_message_gets_its_length(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.respond(body=b"twelve bytes")

    assert (await exchange.response()).field("content-length") == b"12"


async def test_a_streamed_body_arrives_as_it_is_sent(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.start()
    for piece in (b"one", b"two", b"three"):
        await call.body(piece, more=True)
        assert await exchange.read_exactly(len(piece)) == piece
    await call.body(b"end")

    response = await exchange.response()
    assert (response.body, response.complete, response.field("content-length")) == (b"end", True, None)


async def test_empty_pieces_of_a_body_end_nothing(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.start()
    for piece in (b"", b"one", b"", b"two", b""):
        await call.body(piece, more=True)
    await call.body()

    response = await exchange.response()
    assert (response.body, response.complete) == (b"onetwo", True)


async def test_a_streamed_body_may_have_a_length(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.start(200, [(b"content-length", b"6")])
    await call.body(b"one", more=True)
    await call.body(b"two", more=True)
    await call.body()

    response = await exchange.response()
    assert (response.body, response.complete, response.field("content-length")) == (b"onetwo", True, b"6")


async def test_a_large_body_arrives_whole_and_in_order(begin: Begin) -> None:
    content = b"".join(number.to_bytes(4, "big") for number in range(256 * 1024))
    _, exchange, call = await begin()
    await call.start()
    reading = asyncio.ensure_future(exchange.read())
    await call.body(content, more=True)
    await call.body(content)

    assert await reading == content + content


@pytest.mark.parametrize("kind", [bytearray, memoryview])
async def test_other_kinds_of_bytes_are_copied(begin: Begin, kind: Any) -> None:
    _, exchange, call = await begin(receive_window=16)
    content = bytearray(b"0123456789" * 10)
    await call.start()
    await call.body(kind(content), more=True)
    content[:] = b"x" * 100
    await call.body()

    assert await exchange.read() == b"0123456789" * 10


async def test_messages_after_the_response_are_ignored(begin: Begin) -> None:
    client, exchange, call = await begin()
    await call.respond(body=b"all")
    await call.body(b"more", more=True)
    await call.respond(500, [(b"x", b"y")], b"again")
    await call.send({"type": "http.response.trailers", "headers": []})
    assert (await exchange.response()).body == b"all"
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"second")

    assert (await exchange.response()).body == b"second"


# --- Responses without content


async def test_head_is_answered_without_content_but_with_its_length(begin: Begin) -> None:
    client, exchange, call = await begin("HEAD")
    await call.respond(200, [(b"content-length", b"1000")], b"x" * 1000)

    response = await exchange.response()
    assert (response.status, response.body, response.field("content-length")) == (200, b"", b"1000")
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")
    assert (await exchange.response()).body == b"next"


async def test_head_is_complete_with_the_first_piece_of_its_body(begin: Begin) -> None:
    _, exchange, call = await begin("HEAD")
    await call.start()
    await call.body(b"x" * 1000, more=True)

    response = await exchange.response()
    assert (response.body, response.complete, response.field("content-length")) == (b"", True, None)
    await call.body(b"x" * 1000, more=True)
    await call.body()


@pytest.mark.parametrize("status", [204, 304])
async def test_a_status_without_content_has_none(begin: Begin, status: int) -> None:
    client, exchange, call = await begin()
    await call.respond(status, [(b"etag", b'"a"')], b"not sent")

    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (status, b"", True)
    assert (response.field("content-length"), response.field("transfer-encoding")) == (None, None)
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")
    assert (await exchange.response()).body == b"next"


async def test_205_says_that_its_content_is_empty(begin: Begin) -> None:
    """RFC 9110, 15.3.6: there is no content, and unlike 204 the framing has to say so."""
    client, exchange, call = await begin()
    await call.respond(205, [(b"content-length", b"8")], b"not sent")

    response = await exchange.response()
    assert (response.status, response.body, response.field("content-length")) == (205, b"", b"0")
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")
    assert (await exchange.response()).body == b"next"


async def test_304_may_say_how_long_the_content_would_be(begin: Begin) -> None:
    """RFC 9110, 15.4.5."""
    _, exchange, call = await begin()
    await call.respond(304, [(b"content-length", b"1000")])

    response = await exchange.response()
    assert (response.field("content-length"), response.complete) == (b"1000", True)


# --- What only the server says


@pytest.mark.parametrize("coding", [b"chunked", b"gzip", b"identity"])
async def test_the_applications_transfer_encoding_is_ignored(
    begin: Begin, coding: bytes, carrier: Carrier
) -> None:
    _, exchange, call = await begin()
    await call.start(200, [(b"transfer-encoding", coding)])
    await call.body(b"one", more=True)
    await call.body(b"two")

    response = await exchange.response()
    assert (response.body, response.complete) == (b"onetwo", True)
    expected = b"chunked" if carrier.http_version == "1.1" else None
    assert response.field("transfer-encoding") == expected


async def test_fields_about_the_connection_are_not_the_applications(begin: Begin) -> None:
    """RFC 9110, 7.6.1; in HTTP/2 they would make the response malformed (RFC 9113, 8.2.2)."""
    _, exchange, call = await begin()
    names = (b"connection", b"keep-alive", b"proxy-connection", b"upgrade", b"te", b"transfer-encoding")
    await call.respond(200, [*((name, b"x") for name in names), (b"x-kept", b"y")])

    assert fields_of_application(await exchange.response()) == [(b"x-kept", b"y")]


@over_http1
async def test_the_application_can_close_an_http1_connection(begin: Begin) -> None:
    client, exchange, call = await begin()
    await call.respond(200, [(b"connection", b"Close")], b"bye")

    response = await exchange.response()
    assert (response.body, response.complete, response.field("connection")) == (b"bye", True, b"close")
    await client.wait_closed()


@over_http2
async def test_the_application_cannot_close_an_http2_connection(begin: Begin) -> None:
    client, exchange, call = await begin()
    await call.respond(200, [(b"connection", b"close")], b"stay")
    assert (await exchange.response()).body == b"stay"
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")

    assert (await exchange.response()).body == b"next"


# --- Fields that cannot be sent

BAD_FIELDS = {
    "name-crlf": (b"x\r\ny", b"z"),
    "name-space": (b"x y", b"z"),
    "name-colon": (b"x:", b"z"),
    "name-pseudo": (b":status", b"200"),
    "name-empty": (b"", b"z"),
    "name-latin1": (b"\xe9", b"z"),
    "name-str": ("x", b"z"),
    "value-cr": (b"x", b"a\rb"),
    "value-lf": (b"x", b"a\nb"),
    "value-crlf": (b"x", b"a\r\nset-cookie: b=c"),
    "value-nul": (b"x", b"a\0b"),
    "value-control": (b"x", b"a\x1b[2J"),
    "value-str": (b"x", "z"),
    "value-none": (b"x", None),
    "value-int": (b"content-length", 3),
    "length-word": (b"content-length", b"three"),
    "length-negative": (b"content-length", b"-3"),
    "length-list": (b"content-length", b"3, 3"),
    "length-endless": (b"content-length", b"9" * 5000),
    "triple": (b"x", b"y", b"z"),
    "single": (b"x",),
    "no-pair": None,
}


@pytest.mark.parametrize("field", BAD_FIELDS.values(), ids=BAD_FIELDS)
async def test_a_field_that_cannot_be_sent_raises_out_of_send_and_can_still_be_mended(
    begin: Begin, field: Any
) -> None:
    """Defect 10: a bad response header is known before anything is marked as sent."""
    _, exchange, call = await begin()
    with pytest.raises(UnexpectedMessage):
        await call.start(200, [(b"x-good", b"y"), field])
    await call.respond(500, [(b"x-better", b"y")], b"mended")

    response = await exchange.response()
    assert (response.status, response.body) == (500, b"mended")
    assert fields_of_application(response) == [(b"x-better", b"y")]


async def test_an_application_that_does_not_mend_a_bad_field_gets_a_500_answered(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    """Defect 10: a bad response header cuts no connection without an answer."""
    client, exchange, call = await begin()
    with pytest.raises(UnexpectedMessage) as raised:
        await call.start(200, [(b"x", b"a\nb")])
    call.crash(raised.value)
    assert (await exchange.response()).status == 500
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")

    assert (await exchange.response()).body == b"next"
    assert complaints(caplog) == ["GET /: exception in the application"]


async def test_two_lengths_that_differ_cannot_be_sent(begin: Begin) -> None:
    _, exchange, call = await begin()
    with pytest.raises(UnexpectedMessage, match="one number of bytes"):
        await call.start(200, [(b"content-length", b"3"), (b"content-length", b"4")])
    await call.respond(200, [(b"content-length", b"3"), (b"content-length", b"3")], b"abc")

    response = await exchange.response()
    assert (response.field("content-length"), response.body) == (b"3", b"abc")


@over_http1
async def test_a_request_head_of_two_megabytes_is_answered_431_over_http1(
    serve: Serve, connect: Connect, app: SteeredApp, clock: ManualClock
) -> None:
    """Defect 10: a request header of 2 MB is refused."""
    client = await connect(await serve(app, clock=clock))
    exchange = await client.request("GET", "/", [(b"x", b"y" * 2_000_000)])

    assert (await exchange.response()).status == 431
    await client.wait_closed()
    assert not app.called_again


@over_http2
async def test_a_request_head_of_two_megabytes_ends_an_http2_connection(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    """Defect 10: the same; to answer it, all of it would have to be decompressed (RFC 9113, 10.5.1)."""
    peer = await connect.frames(await serve(app))
    block = peer.encoder.encode([*GET, (b"x", b"y" * 2_000_000)], huffman=False)
    parts = [block[at : at + 16384] for at in range(0, len(block), 16384)]
    with contextlib.suppress(ConnectionError):  # the server need not read to the end
        await peer.sends(
            HeadersPart(1, parts[0], end_stream=True),
            *(Continuation(1, part) for part in parts[1:-1]),
            Continuation(1, parts[-1], end_headers=True),
        )

    await peer.expects(Goaway(ANY, ANY))
    await peer.expects_end()
    assert not app.called_again


async def test_a_request_head_a_little_too_large_is_answered_431(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect(await serve(app, max_head_bytes=2048))
    exchange = await client.request("GET", "/", [(b"x", b"y" * 2048)])

    assert (await exchange.response()).status == 431
    assert not app.called_again


# --- Bodies that are not as long as the application said


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_is_longer_than_its_content_length_never_reaches_the_wire(
    begin: Begin, carrier: Carrier, caplog: pytest.LogCaptureFixture, streamed: bool
) -> None:
    _, exchange, call = await begin()
    await call.start(200, [(b"content-length", b"3")])
    if streamed:
        await call.body(b"abc", more=True)
    with pytest.raises(UnexpectedMessage, match=r"longer than its content-length: \d instead of 3") as raised:
        await call.body(b"EXCESS", more=streamed)
    call.crash(raised.value)

    response = await exchange.response()
    assert response.status == (200 if streamed else 500)
    assert b"EXCESS" not in response.body
    if streamed and carrier.http_version == "2":  # over HTTP/1.1, all that was announced has been sent
        assert not response.complete
    await call.cancelled_or_done()
    assert complaints(caplog) == ["GET /: exception in the application"]


@pytest.mark.parametrize("crash", [False, True])
async def test_a_body_shorter_than_its_content_length_does_not_look_complete(
    begin: Begin, caplog: pytest.LogCaptureFixture, crash: bool
) -> None:
    _, exchange, call = await begin()
    await call.start(200, [(b"content-length", b"10")])
    await call.body(b"abc", more=True)
    with pytest.raises(UnexpectedMessage, match="shorter than its content-length: 3 instead of 10") as raised:
        await call.body()
    if crash:
        call.crash(raised.value)
    else:
        call.finish()

    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (200, b"abc", False)
    (complaint,) = complaints(caplog)
    assert complaint.startswith("GET /: ")


async def test_a_whole_body_shorter_than_its_content_length_becomes_a_500(begin: Begin) -> None:
    _, exchange, call = await begin()
    await call.start(200, [(b"content-length", b"10")])
    with pytest.raises(UnexpectedMessage, match="shorter"):
        await call.body(b"abc")
    call.finish()

    response = await exchange.response()
    assert (response.status, response.complete, response.body) == (500, True, b"Internal Server Error")
