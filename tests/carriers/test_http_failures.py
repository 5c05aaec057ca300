"""Applications that fail: a 500 as long as nothing was sent, afterwards a cut that nobody takes for complete."""

import asyncio
import logging
from typing import Any

import pytest

from alphorn.core.asgi import Receive, Scope, Send
from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, HTTP2_TLS
from support.clock import ManualClock
from support.conversation import Begin, complaints
from support.exchange import ClientExchange
from support.http2_client import Http2Exchange
from support.serving import Connect, Serve
from support.steered_app import Call, SteeredApp
from support.wire import Ending

over_http1 = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
over_http2 = pytest.mark.parametrize("carrier", [HTTP2_CLEAR, HTTP2_TLS], ids=str)

INTERNAL_ERROR = 2
SECRET = "password=hunter2"


class Boom(Exception):  # noqa: N818 - it is what happens
    """What these applications raise."""


def end(call: Call, error: BaseException | None) -> None:
    """Let the application end, with an error or without having answered."""
    if error is None:
        call.finish()
    else:
        call.crash(error)


async def expect_cut(exchange: ClientExchange, body: bytes) -> None:
    """The head and `body` came, and then an end that no client can take for the end of the response."""
    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (200, body, False)
    if isinstance(exchange, Http2Exchange):
        assert exchange.reset_code == INTERNAL_ERROR


FAILURES = pytest.mark.parametrize(
    ("error", "complaint"),
    [
        (Boom(SECRET), "POST /: exception in the application"),
        (SystemExit(3), "POST /: exception in the application"),
        (BaseExceptionGroup("", [Boom(), SystemExit()]), "POST /: exception in the application"),
        (None, "POST /: application returned while the response was {state}"),
    ],
    ids=["exception", "SystemExit", "group", "return"],
)


@FAILURES
@pytest.mark.parametrize("started", [False, True], ids=["not-started", "head-held"])
async def test_a_failure_before_anything_was_sent_is_a_500(
    begin: Begin,
    caplog: pytest.LogCaptureFixture,
    error: BaseException | None,
    complaint: str,
    started: bool,
) -> None:
    client, exchange, call = await begin("POST", "/", content=b"unread")
    if started:
        await call.start(200, [(b"x-mine", b"y"), (b"content-length", b"1000")], trailers=True)
    end(call, error)

    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (500, b"Internal Server Error", True)
    assert response.field("content-type") == b"text/plain; charset=utf-8"
    assert response.field("x-mine") is None
    await call.cancelled_or_done()
    state = "started, its head not yet sent" if started else "not started"
    assert complaints(caplog) == [complaint.format(state=state)]
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")
    assert (await exchange.response()).body == b"next"


@FAILURES
@pytest.mark.parametrize("length", [None, b"1000"], ids=["unknown-length", "length"])
async def test_a_failure_in_the_body_cuts_it(
    begin: Begin,
    caplog: pytest.LogCaptureFixture,
    error: BaseException | None,
    complaint: str,
    length: bytes | None,
) -> None:
    _, exchange, call = await begin("POST", "/", content=b"unread")
    await call.start(200, [(b"content-length", length)] if length else [])
    await call.body(b"half", more=True)
    assert await exchange.read_exactly(4) == b"half"
    end(call, error)

    await expect_cut(exchange, b"")
    await call.cancelled_or_done()
    assert complaints(caplog) == [complaint.format(state="in its body")]


async def test_what_was_sent_before_a_failure_still_arrives_over_http1_or_is_reset_over_http2(
    begin: Begin,
) -> None:
    _, exchange, call = await begin()
    await call.start()
    await call.body(b"half", more=True)
    call.crash(Boom())

    await expect_cut(exchange, b"half")


@FAILURES
async def test_a_failure_before_the_trailers_cuts_the_response(
    begin: Begin, caplog: pytest.LogCaptureFixture, error: BaseException | None, complaint: str
) -> None:
    _, exchange, call = await begin("POST", "/", [(b"te", b"trailers")], content=b"")
    await call.start(200, trailers=True)
    await call.body(b"whole")
    assert await exchange.read_exactly(5) == b"whole"
    end(call, error)

    await expect_cut(exchange, b"")
    await call.cancelled_or_done()
    assert complaints(caplog) == [complaint.format(state="waiting for its trailers")]


@over_http1
async def test_a_body_that_only_the_connection_ends_is_cut_with_a_reset(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    """An HTTP/1.0 client takes an orderly close for the end of the body (RFC 9112, 6.3)."""
    client = await connect.http1(await serve(app))
    exchange = await client.request_raw(b"GET / HTTP/1.0\r\n\r\n")
    call = await app.next_call()
    await call.start()
    await call.body(b"half", more=True)
    assert await exchange.read_exactly(4) == b"half"
    call.crash(Boom())
    await client.wait_closed()

    assert client.wire.ending in (Ending.RESET, Ending.TRUNCATED)
    assert not exchange.complete


async def test_a_failure_after_the_response_is_logged_and_harms_nobody(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    client, exchange, call = await begin()
    await call.respond(body=b"all")
    call.crash(Boom())
    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (200, b"all", True)
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")

    assert (await exchange.response()).body == b"next"
    assert complaints(caplog) == ["GET /: exception in the application"]


async def test_the_log_has_the_traceback_and_the_client_has_no_detail(
    begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    _, exchange, call = await begin("GET", "/a%0Ab")
    call.crash(Boom(SECRET))
    response = await exchange.response()

    assert SECRET not in repr(response)
    await call.cancelled_or_done()
    (record,) = [record for record in caplog.records if record.name == "alphorn.error"]
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[0] is Boom
    assert record.getMessage() == r"GET /a\x0ab: exception in the application"


async def test_a_failure_is_answered_although_the_content_is_still_arriving(begin: Begin) -> None:
    _, exchange, call = await begin("POST", "/", content=b"half", end=False)
    call.crash(Boom())

    response = await exchange.response()
    assert (response.status, response.complete) == (500, True)


async def test_the_500_of_a_head_request_has_no_content(begin: Begin) -> None:
    client, exchange, call = await begin("HEAD")
    call.crash(Boom())
    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (500, b"", True)
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")

    assert (await exchange.response()).body == b"next"


async def test_middleware_that_turns_head_into_get_changes_no_framing(begin: Begin) -> None:
    client, exchange, call = await begin("HEAD")
    call.scope["method"] = "GET"
    call.crash(Boom())
    assert (await exchange.response()).status == 500
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")

    assert (await exchange.response()).body == b"next"


@over_http2
async def test_a_failure_cuts_one_stream_and_no_other(begin: Begin) -> None:
    client, exchange, failing = await begin()
    _, sibling, call = await begin.on(client)
    await failing.start()
    await failing.body(b"half", more=True)
    await call.start()
    await call.body(b"one", more=True)
    failing.crash(Boom())
    await expect_cut(exchange, b"half")
    await call.body(b"two")

    response = await sibling.response()
    assert (response.body, response.complete) == (b"onetwo", True)


async def test_an_application_that_cancels_itself_is_a_500_with_a_line_in_the_log(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """A 500 is never silent."""

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise asyncio.CancelledError

    client = await connect(await serve(app, lifespan="off"))
    exchange = await client.request("GET", "/")

    assert (await exchange.response()).status == 500
    assert complaints(caplog) == ["GET /: cancelled by the application itself"]


async def test_an_application_that_ignores_its_request_altogether_is_a_500(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        pass

    client = await connect(await serve(app, lifespan="off"))
    for _ in range(3):
        exchange = await client.request("GET", "/")
        assert (await exchange.response()).status == 500
    assert len(complaints(caplog)) == 3


async def test_an_application_that_is_cancelled_at_shutdown_still_answers_500(
    begin: Begin, serve: Serve, clock: ManualClock
) -> None:
    client, exchange, call = await begin(graceful_timeout=0, clock=clock)
    stopping = await stop(serve, call, clock)

    assert (await exchange.response()).status == 500
    client.close()
    assert await call.cancelled_or_done() == "cancelled"
    await stopping


async def stop(serve: Serve, call: Call, clock: ManualClock) -> asyncio.Task[None]:
    """Stop the server until the application has been told and, a second later, cancelled."""
    await call.receive_body()
    stopping = asyncio.create_task(serve.servers[0].stop())
    assert await call.receive() == {"type": "http.disconnect"}
    clock.advance(1)
    return stopping


async def test_an_application_that_is_cancelled_in_its_body_is_cut(
    begin: Begin, serve: Serve, clock: ManualClock
) -> None:
    client, exchange, call = await begin(graceful_timeout=0, clock=clock)
    await call.start()
    await call.body(b"half", more=True)
    assert await exchange.read_exactly(4) == b"half"
    stopping = await stop(serve, call, clock)

    await expect_cut(exchange, b"")
    client.close()
    await stopping


class Asgi2:
    """The double callable of ASGI 2."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, receive: Receive, send: Send) -> None:
        await receive()
        if self.scope["path"] == "/fail":
            raise Boom
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": self.scope["raw_path"]})


async def test_asgi_2_applications_are_served_and_fail_alike(serve: Serve, connect: Connect) -> None:
    app: Any = Asgi2
    client = await connect(await serve(app, lifespan="off"))
    exchange = await client.request("GET", "/two")
    assert (await exchange.response()).body == b"/two"
    exchange = await client.request("GET", "/fail")

    assert (await exchange.response()).status == 500
