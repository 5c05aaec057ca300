"""How a WSGI application answers behind ASGI: blocks, start_response, and threads set free."""

# ruff: noqa: ARG001 - not every application here needs its whole environ

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from alphorn.core.asgi import Message
from alphorn.core.errors import Disconnected
from alphorn.core.wsgi import THREADS, WsgiApplication
from support.waiting import turns
from support.wsgi_wire import PATIENCE_SECONDS, PLAIN, Blocks, Wire, answer, happens, http_scope, serve

# --- The response


async def test_one_block_is_the_whole_body_in_one_message() -> None:
    wire = await serve(answer([b"all"], "201 Created"))
    assert wire.sent == [
        {"type": "http.response.start", "status": 201, "headers": [(b"content-type", b"text/plain")]},
        {"type": "http.response.body", "body": b"all", "more_body": False},
    ]


@pytest.mark.parametrize("blocks", [[b"one", b"", b"two"], (block for block in (b"", b"one", b"two"))])
async def test_blocks_are_sent_one_by_one_and_empty_ones_left_out(blocks: Iterable[bytes]) -> None:
    wire = await serve(answer(blocks))
    assert wire.bodies == [(b"one", True), (b"two", True), (b"", False)]


@pytest.mark.parametrize("blocks", [[], [b""], iter([])], ids=["nothing", "empty", "iterator"])
async def test_an_empty_body_is_a_head_and_an_end(blocks: Iterable[bytes]) -> None:
    wire = await serve(answer(blocks, "204 No Content"))
    assert wire.status == 204
    assert wire.bodies == [(b"", False)]


async def test_written_blocks_come_before_the_returned_ones() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", PLAIN)
        write(b"one")
        write(b"")
        write(b"two")
        return [b"three"]

    wire = await serve(app)
    assert wire.bodies == [(b"one", True), (b"two", True), (b"three", False)]


async def test_the_next_block_is_asked_for_when_the_last_has_been_taken() -> None:
    made: list[bytes] = []
    taken: list[int] = []

    def blocks() -> Iterator[bytes]:
        for block in (b"one", b"two", b"three"):
            made.append(block)
            yield block

    class SlowWire(Wire):
        async def send(self, message: Message) -> None:
            await turns(1)
            taken.append(len(made))
            await super().send(message)

    wire = SlowWire()
    await WsgiApplication(answer(blocks()))(http_scope(), wire.receive, wire.send)
    assert taken == [1, 1, 2, 3, 3]  # start and first block, second, third, end


async def test_headers_are_latin_1_with_lower_case_names_in_order() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [("Set-Cookie", "a=ü"), ("X-Other", ""), ("Set-Cookie", "b")])
        return []

    wire = await serve(app)
    assert wire.sent[0]["headers"] == [(b"set-cookie", b"a=\xfc"), (b"x-other", b""), (b"set-cookie", b"b")]


async def test_a_generator_may_call_start_response_at_its_first_block() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", PLAIN)
        yield b"late"

    assert (await serve(app)).status == 200


async def test_the_iterable_is_closed_after_the_end_was_sent() -> None:
    sent_at_close: list[int] = []
    wire = Wire()

    class Closing(Blocks):
        def close(self) -> None:
            super().close()
            sent_at_close.append(len(wire.sent))

    blocks = Closing([b"one", b"two"])
    await WsgiApplication(answer(blocks))(http_scope(), wire.receive, wire.send)
    assert blocks.closed.is_set()
    assert sent_at_close == [4]


@pytest.mark.parametrize(
    ("blocks", "error"),
    [
        ((block for block in [b"one", "two"]), TypeError),
        ((1 // divisor for divisor in [0]), ZeroDivisionError),
    ],
    ids=["not bytes", "raises"],
)
async def test_the_iterable_is_closed_when_it_fails(blocks: Any, error: type[Exception]) -> None:
    closing = Blocks(blocks)
    with pytest.raises(error):
        await serve(answer(closing))
    assert closing.closed.is_set()


# --- start_response


async def test_with_exc_info_the_head_may_be_replaced_until_it_is_sent() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", PLAIN)
        try:
            dict[str, str]()["missing"]
        except KeyError:
            start_response("500 Oops", PLAIN, sys.exc_info())
        return [b"sorry"]

    wire = await serve(app)
    assert wire.status == 500
    assert wire.bodies == [(b"sorry", False)]


async def test_with_exc_info_the_exception_goes_on_when_the_head_is_sent() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", PLAIN)(b"part")
        try:
            dict[str, str]()["theirs"]
        except KeyError:
            start_response("500 Oops", PLAIN, sys.exc_info())
        return [b"never"]

    wire = Wire()
    with pytest.raises(KeyError, match="theirs"):
        await WsgiApplication(app)(http_scope(), wire.receive, wire.send)
    assert wire.status == 200
    assert wire.bodies == [(b"part", True)]


def twice(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    start_response("200 OK", PLAIN)
    return []


def never(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return []


def never_but_a_block(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return [b"body"]


def unencodable(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("x", "\N{SNOWMAN}")])
    return []


def stopping(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    return [next(iter([]))]


@pytest.mark.parametrize(
    ("app", "error", "words"),
    [
        (twice, RuntimeError, "called again, without exc_info"),
        (never, RuntimeError, "before it called start_response"),
        (never_but_a_block, RuntimeError, "before it called start_response"),
        (unencodable, UnicodeEncodeError, "latin-1"),
        (answer([], "OK"), ValueError, "'OK' has to be three digits"),
        (answer([], "2000 OK"), ValueError, "'2000 OK' has to be three digits"),
        (answer(["text"]), TypeError, "of type str, not bytes"),  # type: ignore[list-item]
        (stopping, RuntimeError, "raised StopIteration"),
    ],
    ids=["twice", "never", "body first", "unencodable", "no number", "four digits", "text", "stop"],
)
async def test_a_mistake_of_the_application_is_raised_and_nothing_sent(
    app: WSGIApplication, error: type[Exception], words: str
) -> None:
    wire = Wire()
    with pytest.raises(error, match=words):
        await WsgiApplication(app)(http_scope(), wire.receive, wire.send)
    assert wire.sent == []


async def test_a_head_that_the_server_refuses_may_be_replaced() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        write = start_response("200 OK", [("bad name", "")])
        try:
            write(b"part")
        except ValueError:
            start_response("500 Oops", PLAIN, sys.exc_info())
        return [b"sorry"]

    class StrictWire(Wire):
        async def send(self, message: Message) -> None:
            if any(b" " in name for name, _ in message.get("headers", [])):
                raise ValueError("bad header name")
            await super().send(message)

    wire = StrictWire()
    await WsgiApplication(app)(http_scope(), wire.receive, wire.send)
    assert wire.status == 500


# --- Threads set free


async def test_a_client_that_leaves_raises_out_of_the_send_and_closes_the_iterable() -> None:
    class LostWire(Wire):
        async def send(self, message: Message) -> None:
            if len(self.sent) == 2:  # the start and one block
                raise Disconnected("gone")
            await super().send(message)

    blocks = Blocks(iter([b"one", b"two", b"three"]))
    wire = LostWire()
    with pytest.raises(Disconnected, match="gone"):
        await WsgiApplication(answer(blocks))(http_scope(), wire.receive, wire.send)
    assert blocks.closed.is_set()
    assert list(blocks.blocks) == [b"three"]


async def test_cancelling_frees_a_thread_that_waits_for_the_body() -> None:
    freed = threading.Event()
    seen: list[BaseException] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            environ["wsgi.input"].read(10)
        except OSError as error:
            seen.append(error)
            freed.set()
        return []

    wire = Wire(b"part", lost=True)
    wire.requests.pop()  # neither more nor gone: it is silent
    exchange = asyncio.create_task(WsgiApplication(app)(http_scope(), wire.receive, wire.send))
    await wire.waiting.wait()
    exchange.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange
    assert await happens(freed)
    assert isinstance(seen[0], Disconnected)


async def test_cancelling_frees_a_thread_that_waits_for_a_slow_reader() -> None:
    class StuckWire(Wire):
        async def send(self, message: Message) -> None:
            self.waiting.set()
            await asyncio.Event().wait()

    blocks = Blocks([b"one", b"two"])
    wire = StuckWire()
    exchange = asyncio.create_task(WsgiApplication(answer(blocks))(http_scope(), wire.receive, wire.send))
    await wire.waiting.wait()
    exchange.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange
    assert await happens(blocks.closed)


async def test_an_application_that_goes_on_after_the_exchange_is_stopped_at_its_next_block() -> None:
    started, go_on = threading.Event(), threading.Event()

    def make() -> Iterator[bytes]:
        started.set()
        go_on.wait(PATIENCE_SECONDS)
        yield b"late"

    blocks = Blocks(make())
    wire = Wire()
    exchange = asyncio.create_task(WsgiApplication(answer(blocks))(http_scope(), wire.receive, wire.send))
    assert await happens(started)
    exchange.cancel()
    with pytest.raises(asyncio.CancelledError):
        await exchange
    go_on.set()
    assert await happens(blocks.closed)
    assert wire.sent == []


async def test_write_after_the_end_of_the_exchange_raises() -> None:
    kept: list[Callable[[bytes], object]] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        kept.append(start_response("200 OK", PLAIN))
        return [b"all"]

    await serve(app)
    with pytest.raises(Disconnected):
        await asyncio.to_thread(kept[0], b"more")


async def test_no_more_threads_than_the_bound_run_at_once() -> None:
    full, go_on = threading.Barrier(THREADS + 1), threading.Event()
    calls: list[None] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        calls.append(None)
        if not go_on.is_set():
            full.wait(PATIENCE_SECONDS)
            go_on.wait(PATIENCE_SECONDS)
        start_response("200 OK", PLAIN)
        return []

    wsgi = WsgiApplication(app)
    wires = [Wire() for _ in range(THREADS + 5)]
    exchanges = asyncio.gather(*(wsgi(http_scope(), wire.receive, wire.send) for wire in wires))
    await asyncio.to_thread(full.wait, PATIENCE_SECONDS)
    assert len(calls) == THREADS
    go_on.set()
    await exchanges
    assert len(calls) == THREADS + 5


async def test_context_variables_reach_the_application() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
    seen: list[str] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.append(variable.get())
        variable.set("theirs")
        start_response("200 OK", PLAIN)
        return []

    variable.set("ours")
    await serve(app)
    assert seen == ["ours"]
    assert variable.get() == "ours"
