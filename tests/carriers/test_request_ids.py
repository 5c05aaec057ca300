"""Names of requests: those that come with them, those that are made, and who gets to see them."""

import asyncio
import json
import re
from typing import Any

import pytest

from alphorn.core.asgi import Field, Scope
from alphorn.core.request_ids import read_trace_id
from support.carrier import HTTP1_CLEAR, HTTP2_TLS, WEBSOCKET_CARRIERS
from support.exchange import Response
from support.serving import Connect, Serve
from support.steered_app import SteeredApp
from support.websocket_client import Offer, open_websocket

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
MADE_ID = re.compile(rb"[0-9a-f]{32}")
MADE_TRACE = re.compile(rb"00-[0-9a-f]{32}-[0-9a-f]{16}-01")
CARRIERS = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_TLS], ids=str)


def values(fields: list[Field], name: bytes) -> list[bytes]:
    return [value for each, value in fields if each == name]


async def asked(
    serve: Serve,
    connect: Connect,
    app: SteeredApp,
    fields: list[Field],
    answer: list[Field],
    **settings: Any,
) -> tuple[Scope, Response]:
    """Make a request; return what the application saw, and what it was answered."""
    client = await connect(await serve(app, **settings))
    exchange = await client.request("GET", "/", fields)
    call = await app.next_call()
    await call.respond(fields=answer)
    return call.scope, await exchange.response()


@CARRIERS
async def test_by_default_a_request_is_left_as_it_is(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    scope, response = await asked(
        serve, connect, app, [(b"x-request-id", b"a b"), (b"traceparent", b"x")], []
    )
    assert values(scope["headers"], b"x-request-id") == [b"a b"]
    assert values(scope["headers"], b"traceparent") == [b"x"]
    assert response.field("x-request-id") is None


@CARRIERS
async def test_a_name_that_came_with_the_request_stays(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    given = b"Root=1-67891233-abcdef012345678912345678"
    scope, response = await asked(serve, connect, app, [(b"x-request-id", given)], [], request_id=True)
    assert values(scope["headers"], b"x-request-id") == [given]
    assert response.field("x-request-id") == given


@CARRIERS
@pytest.mark.parametrize(
    "given", [[], [b""], [b"a b"], [b"caf\xe9"], [b'"'], [b"x" * 129], [b"one", b"two"]], ids=str
)
async def test_a_request_without_a_valid_name_gets_one(
    serve: Serve, connect: Connect, app: SteeredApp, given: list[bytes]
) -> None:
    fields = [(b"x-request-id", value) for value in given]
    scope, response = await asked(serve, connect, app, fields, [], request_id=True)
    (made,) = values(scope["headers"], b"x-request-id")
    assert MADE_ID.fullmatch(made)
    assert response.field("x-request-id") == made


@CARRIERS
async def test_a_name_that_the_application_says_is_not_said_twice(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    _, response = await asked(serve, connect, app, [], [(b"X-Request-ID", b"mine")], request_id=True)
    assert values(response.fields, b"x-request-id") == [b"mine"]


@CARRIERS
async def test_an_answer_of_the_server_itself_has_the_name(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect(await serve(app, request_id=True))
    exchange = await client.request("GET", "/", [(b"x-request-id", b"abc")])
    call = await app.next_call()
    call.crash(ValueError("a bug of theirs"))
    response = await exchange.response()
    assert response.status == 500
    assert response.field("x-request-id") == b"abc"


@pytest.mark.parametrize("carrier", WEBSOCKET_CARRIERS, ids=str)
async def test_a_websocket_has_a_name_as_well(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    client = await connect(await serve(app, request_id=True))
    opening = asyncio.ensure_future(open_websocket(client, "/", Offer([], [], False)))
    call = await app.next_call()
    (made,) = values(call.scope["headers"], b"x-request-id")
    await call.accept()
    websocket = await opening
    assert websocket.head.field("x-request-id") == made
    await websocket.close()


@CARRIERS
async def test_a_valid_trace_goes_on(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    fields = [(b"traceparent", TRACE), (b"tracestate", b"a=b")]
    scope, response = await asked(serve, connect, app, fields, [], trace_context=True)
    assert values(scope["headers"], b"traceparent") == [TRACE]
    assert values(scope["headers"], b"tracestate") == [b"a=b"]
    assert response.field("traceparent") is None


@CARRIERS
@pytest.mark.parametrize("given", [[], [b"00-0-0-00"], [TRACE, TRACE]], ids=str)
async def test_a_request_outside_of_any_trace_begins_one(
    serve: Serve, connect: Connect, app: SteeredApp, given: list[bytes]
) -> None:
    fields = [*((b"traceparent", value) for value in given), (b"tracestate", b"a=b")]
    scope, _ = await asked(serve, connect, app, fields, [], trace_context=True)
    (made,) = values(scope["headers"], b"traceparent")
    assert MADE_TRACE.fullmatch(made)
    assert values(scope["headers"], b"tracestate") == []


@pytest.mark.parametrize(
    ("field", "valid"),
    [
        (TRACE, True),
        (b"01" + TRACE[2:] + b"-what comes later", True),
        (b"cc" + TRACE[2:], True),
        (None, False),
        (b"", False),
        (TRACE + b"-more", False),
        (TRACE.upper(), False),
        (b"ff" + TRACE[2:], False),
        (b"00-" + b"0" * 32 + TRACE[35:], False),
        (TRACE[:36] + b"0" * 16 + b"-00", False),
        (TRACE[:-1], False),
        (TRACE + b"\n", False),
    ],
)
def test_a_trace_is_valid_or_it_is_not(field: bytes | None, valid: bool) -> None:
    assert read_trace_id(field) == ("4bf92f3577b34da6a3ce929d0e0e4736" if valid else None)


@CARRIERS
async def test_the_log_has_the_names_that_were_made(
    serve: Serve, connect: Connect, app: SteeredApp, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "alphorn.access")
    client = await connect(await serve(app, request_id=True, trace_context=True, log_format="json"))
    exchange = await client.request("GET", "/")
    call = await app.next_call()
    await call.respond()
    await exchange.response()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "alphorn.access"]
    told = json.loads(line)
    assert [told["request_id"].encode()] == values(call.scope["headers"], b"x-request-id")
    assert told["trace_id"].encode() in values(call.scope["headers"], b"traceparent")[0]


@CARRIERS
async def test_a_head_that_is_wrong_is_complained_about_as_ever(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect(await serve(app, request_id=True))
    exchange = await client.request("GET", "/")
    call = await app.next_call()
    with pytest.raises(RuntimeError, match="headers is an iterable of pairs of bytes"):
        await call.send({"type": "http.response.start", "status": 200, "headers": [1]})
    await call.respond()
    assert (await exchange.response()).status == 200
