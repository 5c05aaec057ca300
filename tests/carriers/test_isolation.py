"""Whatever goes wrong in one exchange touches that exchange alone, and its client learns nothing of it.

Each fault happens while a neighbour is in the middle of its own exchange: over HTTP/2 on the same
connection, over HTTP/1.1 on another one. The neighbour, and whoever comes next, notice nothing.
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn

import pytest

from alphorn.core.asgi import Receive, Scope, Send
from support.carrier import HTTP1_CLEAR, HTTP2_CLEAR
from support.exchange import Client, ClientExchange
from support.http2_client import Http2Client
from support.serving import Connect, Serve
from support.steered_app import accept_lifespan
from support.waiting import turns
from support.websocket_client import Close, open_websocket

SECRET = "password=hunter2"

Fault = Callable[[Scope, Receive, Send], Awaitable[object]]


class Nasty(Exception):  # noqa: N818
    """An exception about which nothing can be said."""

    def __str__(self) -> str:
        raise ValueError(SECRET)

    __repr__ = __str__


class Speechless(Exception):  # noqa: N818
    """One that says something else than text."""

    def __str__(self) -> str:
        return None  # type: ignore[return-value]  # noqa: PLE0307 - that is the point

    __repr__ = __str__


async def raises(_scope: Scope, _receive: Receive, _send: Send) -> NoReturn:
    raise ValueError(SECRET)


async def cancels_itself(_scope: Scope, _receive: Receive, _send: Send) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel(SECRET)
    await turns(1)


async def awaits_a_cancelled_task(_scope: Scope, _receive: Receive, _send: Send) -> None:
    task = asyncio.ensure_future(asyncio.sleep(3600))
    task.cancel(SECRET)
    await task


async def takes_too_long(_scope: Scope, _receive: Receive, _send: Send) -> None:
    async with asyncio.timeout(0.001):
        await asyncio.sleep(3600)


async def sends_what_is_no_message(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": SECRET, "headers": 5})


async def sends_a_type_that_cannot_be_hashed(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": [SECRET]})


async def sends_a_field_that_ends_the_line(_scope: Scope, _receive: Receive, send: Send) -> None:
    start = {"status": 200, "headers": [(b"x", b"a\r\nb: c")]}
    await send({"type": "http.response.start", **start})
    await send({"type": "websocket.accept", **start})


async def asks_for_too_much_memory(_scope: Scope, _receive: Receive, _send: Send) -> None:
    bytearray(sys.maxsize)


async def recurses_for_ever(scope: Scope, receive: Receive, send: Send) -> None:
    await recurses_for_ever(scope, receive, send)


async def exits(_scope: Scope, _receive: Receive, _send: Send) -> NoReturn:
    sys.exit(SECRET)


async def raises_what_has_no_text(_scope: Scope, _receive: Receive, _send: Send) -> NoReturn:
    raise Nasty


async def raises_what_has_no_text_because_of_another(
    _scope: Scope, _receive: Receive, _send: Send
) -> NoReturn:
    raise ExceptionGroup(SECRET, [Nasty(), Speechless()]) from Nasty()


async def raises_very_much_text(_scope: Scope, _receive: Receive, _send: Send) -> NoReturn:
    raise ValueError(SECRET * 1_000_000)


async def raises_groups_in_groups(_scope: Scope, _receive: Receive, _send: Send) -> NoReturn:
    error: Exception = ValueError(SECRET)
    for _ in range(2000):
        error = ExceptionGroup("in another", [error])
    raise error


async def raises_causes_of_causes(_scope: Scope, _receive: Receive, _send: Send) -> NoReturn:
    error: Exception = ValueError(SECRET)
    for _ in range(2000):
        cause, error = error, ValueError("of another")
        error.__cause__ = cause
    raise error


async def leaves_a_generator_open(_scope: Scope, _receive: Receive, _send: Send) -> NoReturn:
    generator = endless()
    await anext(generator)
    raise ValueError(SECRET)


async def endless() -> AsyncIterator[int]:
    try:
        while True:
            yield 1
    finally:
        await turns(1)


async def leaves_tasks_behind(_scope: Scope, receive: Receive, _send: Send) -> NoReturn:
    for _ in range(3):
        task = asyncio.ensure_future(receive())
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        task.cancel()
    raise ValueError(SECRET)


async def clears_its_scope(scope: Scope, _receive: Receive, _send: Send) -> NoReturn:
    scope.clear()
    raise ValueError(SECRET)


async def spoils_its_scope(scope: Scope, _receive: Receive, _send: Send) -> NoReturn:
    for key in [*scope, "method", "scheme"]:
        scope[key] = Nasty()
    raise ValueError(SECRET)


async def spoils_its_scope_and_answers(scope: Scope, _receive: Receive, send: Send) -> None:
    """Even the last step of an answer looks into the scope."""
    for key in [*scope, "method", "scheme"]:
        scope[key] = Nasty()
    start = {"type": "http.response.start", "status": 500, "trailers": True}
    await send({**start, "headers": [(b"content-type", b"text/plain; charset=utf-8")]})
    await send({"type": "http.response.body", "body": b"Internal Server Error"})
    await send({"type": "http.response.trailers", "headers": [(b"x-checksum", b"1")]})


HTTP_FAULTS: list[Fault] = [
    raises,
    cancels_itself,
    awaits_a_cancelled_task,
    takes_too_long,
    sends_what_is_no_message,
    sends_a_type_that_cannot_be_hashed,
    sends_a_field_that_ends_the_line,
    asks_for_too_much_memory,
    recurses_for_ever,
    exits,
    raises_what_has_no_text,
    raises_what_has_no_text_because_of_another,
    raises_very_much_text,
    raises_groups_in_groups,
    raises_causes_of_causes,
    leaves_a_generator_open,
    leaves_tasks_behind,
    clears_its_scope,
    spoils_its_scope,
]
# TLS carries the same bytes.
in_the_clear = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
faults = pytest.mark.parametrize("fault", HTTP_FAULTS, ids=lambda fault: fault.__name__)


class App:
    """Has a fault at `/fault`, and a long conversation everywhere else."""

    def __init__(self, fault: Fault) -> None:
        self.go_on = asyncio.Event()
        self._fault = fault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await accept_lifespan(receive, send)
        elif scope["type"] == "websocket":
            await self._talk(scope, receive, send)
        elif scope["path"] == "/fault":
            await self._fault(scope, receive, send)
        else:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"one ", "more_body": True})
            await self.go_on.wait()
            await send({"type": "http.response.body", "body": b"two"})

    async def _talk(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if scope["path"] == "/fault":
            await self._fault(scope, receive, send)
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            if message["text"] == "fault":
                await self._fault(scope, receive, send)
            await send({"type": "websocket.send", "text": message["text"]})


@pytest.fixture
async def unhandled() -> AsyncIterator[list[Any]]:
    """What the loop was told because nobody had caught it: it would be printed past our logs."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context))
    yield told
    asyncio.get_running_loop().set_exception_handler(None)


async def neighbour_of(client: Client, connect: Connect, url: str) -> Client:
    """Return a connection for a neighbour: the same on HTTP/2, another on HTTP/1.1."""
    return client if isinstance(client, Http2Client) else await connect(url)


async def expect_plain_500(exchange: ClientExchange) -> None:
    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (500, b"Internal Server Error", True)
    assert sorted(name for name, _ in response.fields) == [
        b"content-length",
        b"content-type",
        b"date",
        b"server",
    ]
    assert response.field("server") == b"alphorn"


@in_the_clear
@faults
async def test_a_fault_in_a_request_is_a_500_that_says_nothing_and_the_neighbour_goes_on(
    serve: Serve, connect: Connect, fault: Fault, caplog: pytest.LogCaptureFixture, unhandled: list[Any]
) -> None:
    app = App(fault)
    url = await serve(app)
    client = await connect(url)
    neighbour = await (await neighbour_of(client, connect, url)).request("GET", "/neighbour")
    assert await neighbour.read_exactly(4) == b"one "

    await expect_plain_500(await client.request("GET", "/fault"))

    app.go_on.set()
    assert await neighbour.read() == b"two"
    assert neighbour.complete
    assert (await (await client.request("GET", "/next")).response()).body == b"one two"
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 1
    assert SECRET not in lines[0]
    gc.collect()
    await turns(1)
    assert unhandled == []


async def test_a_spoilt_scope_does_not_keep_an_answer_from_its_end(
    serve: Serve, connect: Connect, unhandled: list[Any]
) -> None:
    client = await connect(await serve(App(spoils_its_scope_and_answers)))
    response = await (await client.request("GET", "/fault", [(b"te", b"trailers")])).response()

    assert (response.status, response.body) == (500, b"Internal Server Error")
    assert unhandled == []


@in_the_clear
@faults
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_fault_in_a_websocket_says_nothing_and_the_neighbour_goes_on(
    serve: Serve,
    connect: Connect,
    fault: Fault,
    *,
    when: str,
    caplog: pytest.LogCaptureFixture,
    unhandled: list[Any],
) -> None:
    url = await serve(App(fault))
    client = await connect(url)
    neighbour = await open_websocket(await neighbour_of(client, connect, url))

    if when == "before":
        denied = await open_websocket(client, "/fault")
        await expect_plain_500(denied.exchange)
    else:
        websocket = await open_websocket(client)
        await websocket.send("fault")
        assert await websocket.receive() == Close(1011)

    await neighbour.send("still there?")
    assert await neighbour.receive() == "still there?"
    lines = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(lines) == 1
    assert SECRET not in lines[0]
    gc.collect()
    await turns(1)
    assert unhandled == []


async def test_a_task_of_the_lifespan_that_fails_touches_no_request(
    serve: Serve, connect: Connect, unhandled: list[Any]
) -> None:
    background: list[asyncio.Task[None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            background.append(asyncio.ensure_future(fails()))
            await accept_lifespan(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    async def fails() -> None:
        raise Nasty

    client = await connect(await serve(app))
    await asyncio.wait(background)

    assert (await (await client.request("GET", "/")).response()).body == b"fine"
    assert isinstance(background[0].exception(), Nasty)
    assert unhandled == []
