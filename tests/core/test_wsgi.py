"""WSGI applications behind ASGI: the environ, bodies streamed both ways, start_response, threads set free."""

# ruff: noqa: ARG001 - not every application here needs its whole environ

import asyncio
import contextvars
import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from wsgiref.validate import validator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphorn.core.asgi import Message, Scope
from alphorn.core.errors import Disconnected
from alphorn.core.wsgi import THREADS, WsgiApplication, make_environ

PLAIN = [("Content-Type", "text/plain")]
PATIENCE_SECONDS = 20


def http_scope(**changes: Any) -> Scope:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"example.org")],
        "client": ("192.0.2.7", 50000),
        "server": ("192.0.2.1", 8000),
        **changes,
    }


class Wire:
    """The other end of one exchange: gives the request's messages, then waits; takes the response's.

    `log` has what happened in order: "receive" for a message handed out, and each body that was sent.
    """

    def __init__(self, *body: bytes, lost: bool = False) -> None:
        self.requests: list[Message] = [
            {"type": "http.request", "body": part, "more_body": lost or number < len(body)}
            for number, part in enumerate(body or (b"",), 1)
        ]
        if lost:
            self.requests.append({"type": "http.disconnect"})
        self.log: list[object] = []
        self.sent: list[Message] = []
        self.waiting = asyncio.Event()

    async def receive(self) -> Message:
        if not self.requests:
            self.waiting.set()
            await asyncio.Event().wait()
        self.log.append("receive")
        return self.requests.pop(0) if self.requests[0]["type"] == "http.request" else self.requests[0]

    async def send(self, message: Message) -> None:
        self.sent.append(message)
        if message["type"] == "http.response.body":
            self.log.append(message["body"])

    @property
    def status(self) -> int:
        assert self.sent[0]["type"] == "http.response.start"
        status = self.sent[0]["status"]
        assert isinstance(status, int)
        return status

    @property
    def bodies(self) -> list[tuple[bytes, bool]]:
        return [(message["body"], message["more_body"]) for message in self.sent[1:]]


async def serve(app: WSGIApplication, *body: bytes, lost: bool = False, **changes: Any) -> Wire:
    """Run one exchange to its end."""
    wire = Wire(*body, lost=lost)
    await WsgiApplication(app)(http_scope(**changes), wire.receive, wire.send)
    return wire


async def happens(event: threading.Event) -> bool:
    """Wait for something that another thread does."""
    return await asyncio.to_thread(event.wait, PATIENCE_SECONDS)


class Blocks:
    """An iterable of blocks that says when it has been closed."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self.blocks = iter(blocks)
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        return self.blocks

    def close(self) -> None:
        assert not self.closed.is_set()
        self.closed.set()


def answer(blocks: Iterable[bytes], status: str = "200 OK") -> WSGIApplication:
    """Make an application that answers so."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response(status, PLAIN)
        return blocks

    return app


# --- The reference validator of the standard library


def hello(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


def echo(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    while block := environ["wsgi.input"].read(3):
        yield block


def echo_lines(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    body = environ["wsgi.input"]
    lines = [body.readline(), *body.readlines()]
    write = start_response("200 OK", PLAIN)
    write(b"".join(lines))
    environ["wsgi.errors"].write("")
    return []


def unmodified(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("304 Not Modified", [])
    return []


@pytest.mark.parametrize("app", [hello, echo, echo_lines, unmodified])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "method": "POST",
            "headers": [(b"host", b"h"), (b"content-type", b"a/b"), (b"content-length", b"5")],
        },
        {"http_version": "2", "scheme": "https", "client": None, "server": ("/run/app.sock", None)},
        {"root_path": "/mounted", "raw_path": b"/a%20b%FF", "query_string": b"q=%20"},
        {"root_path": "/", "raw_path": b""},
    ],
    ids=["get", "post", "unix", "mounted", "bare"],
)
async def test_the_validator_has_no_complaint(
    app: WSGIApplication, changes: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    wire = await serve(validator(app), b"a\nb", b"\nc", **changes)
    assert wire.status in {200, 304}
    assert wire.bodies[-1][1] is False
    assert [more for _, more in wire.bodies].count(False) == 1
    assert capfd.readouterr().err == ""  # where the validator complains of what was not closed


# --- The environ


def environ_of(**changes: Any) -> WSGIEnvironment:
    return make_environ(http_scope(**changes), io.BytesIO())


def test_the_request_line_is_in_the_environ() -> None:
    environ = environ_of(method="PUT", raw_path=b"/a%2Fb", query_string=b"x=1&y=%20", http_version="2")
    assert environ["REQUEST_METHOD"] == "PUT"
    assert environ["PATH_INFO"] == "/a/b"
    assert environ["QUERY_STRING"] == "x=1&y=%20"
    assert environ["SERVER_PROTOCOL"] == "HTTP/2"
    assert environ["wsgi.url_scheme"] == "http"


def test_paths_carry_their_bytes_as_latin_1() -> None:
    environ = environ_of(
        root_path="/\N{SNOWMAN}", path="/\N{SNOWMAN}/ü\N{REPLACEMENT CHARACTER}", raw_path=b"/%C3%BC%FF"
    )
    assert environ["SCRIPT_NAME"].encode("latin-1") == "/\N{SNOWMAN}".encode()
    assert environ["PATH_INFO"].encode("latin-1") == b"/\xc3\xbc\xff"


@pytest.mark.parametrize(
    ("root_path", "script_name"), [("", ""), ("/", ""), ("/api", "/api"), ("/api/", "/api")]
)
def test_the_root_path_is_the_script_name_and_no_part_of_the_path(root_path: str, script_name: str) -> None:
    environ = environ_of(root_path=root_path, path=f"{root_path}/users", raw_path=b"/users")
    assert environ["SCRIPT_NAME"] == script_name
    assert environ["PATH_INFO"] == "/users"


def test_both_ends_are_in_the_environ() -> None:
    environ = environ_of()
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("192.0.2.1", "8000")
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == ("192.0.2.7", "50000")


@pytest.mark.parametrize("server", [None, ("/run/app.sock", None)])
@pytest.mark.parametrize(("scheme", "port"), [("http", "80"), ("https", "443")])
def test_on_a_unix_socket_server_name_and_port_are_there_all_the_same(
    server: object, scheme: str, port: str
) -> None:
    environ = environ_of(server=server, scheme=scheme, client=None)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", port)
    assert environ["REMOTE_ADDR"] == ""
    assert "REMOTE_PORT" not in environ


def test_fields_become_variables_and_repeated_ones_lists() -> None:
    environ = environ_of(
        headers=[
            (b"host", b"example.org"),
            (b"content-type", b"text/plain"),
            (b"content-length", b"5"),
            (b"x-list", b"one"),
            (b"cookie", b"a=1"),
            (b"x-list", b"tw\xf6"),
            (b"cookie", b"b=2"),
        ]
    )
    assert environ["HTTP_HOST"] == "example.org"
    assert environ["CONTENT_TYPE"] == "text/plain"
    assert environ["CONTENT_LENGTH"] == "5"
    assert environ["HTTP_X_LIST"] == "one,twö"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & environ.keys()


def test_a_field_with_an_underscore_cannot_forge_a_variable() -> None:
    environ = environ_of(
        headers=[(b"x_remote_user", b"root"), (b"content_length", b"9"), (b"x-remote-user", b"me")]
    )
    assert environ["HTTP_X_REMOTE_USER"] == "me"
    assert not {"CONTENT_LENGTH", "HTTP_CONTENT_LENGTH"} & environ.keys()


def test_the_wsgi_variables_say_how_it_is_run() -> None:
    environ = environ_of()
    assert environ["wsgi.version"] == (1, 0)
    assert environ["wsgi.errors"] is sys.stderr
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.multiprocess"] is True
    assert environ["wsgi.run_once"] is False
    assert environ["wsgi.input_terminated"] is True
    assert type(environ) is dict


# --- The request body


async def test_the_body_is_received_only_as_it_is_read() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", PLAIN)
        yield from environ["wsgi.input"]

    wire = await serve(app, b"one\n", b"two\nthree\n", b"", b"end")
    assert wire.log == [
        "receive", b"one\n",
        "receive", b"two\n", b"three\n",
        "receive", "receive", b"end",
        b"",
    ]  # fmt: skip


async def test_a_body_that_is_not_read_is_not_received() -> None:
    wire = await serve(hello, b"unread")
    assert "receive" not in wire.log


async def test_a_body_without_a_length_can_be_read_to_its_end() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert "CONTENT_LENGTH" not in environ
        start_response("200 OK", PLAIN)
        return [environ["wsgi.input"].read()]

    wire = await serve(app, b"a", b"b", b"c", headers=[(b"transfer-encoding", b"chunked")])
    assert wire.bodies == [(b"abc", False)]


READS: dict[str, Callable[[Any, int], object]] = {
    "read": lambda body, size: body.read(size),
    "read all": lambda body, _: body.read(),
    "readline": lambda body, _: body.readline(),
    "readline of at most": lambda body, size: body.readline(size),
    "readlines": lambda body, _: body.readlines(),
    "next": lambda body, _: next(body, None),
}


@settings(max_examples=50, deadline=None)
@given(
    parts=st.lists(st.binary(max_size=5) | st.just(b"\n"), max_size=6),
    reads=st.lists(st.tuples(st.sampled_from(sorted(READS)), st.integers(0, 7)), max_size=8),
)
def test_reading_is_what_it_would_be_from_a_file(parts: list[bytes], reads: list[tuple[str, int]]) -> None:
    found: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", PLAIN)
        found.extend(READS[name](environ["wsgi.input"], size) for name, size in reads)
        return []

    asyncio.run(serve(app, *parts))
    file = io.BytesIO(b"".join(parts))
    assert found == [READS[name](file, size) for name, size in reads]


async def test_a_client_that_leaves_raises_out_of_every_read() -> None:
    seen: list[object] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        seen.append(environ["wsgi.input"].read(4))
        for _ in range(2):
            with pytest.raises(OSError, match="the client left before its request was complete"):
                environ["wsgi.input"].read(1)
        start_response("400 Bad Request", PLAIN)
        return [b"incomplete"]

    wire = await serve(app, b"some", lost=True)
    assert seen == [b"some"]
    assert wire.status == 400


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
            await asyncio.sleep(0)
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


# --- Other scopes


async def test_the_lifespan_is_completed_and_the_threads_let_go() -> None:
    threads: list[threading.Thread] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        threads.append(threading.current_thread())
        start_response("200 OK", PLAIN)
        return []

    wsgi = WsgiApplication(app)
    messages: asyncio.Queue[Message] = asyncio.Queue()
    sent: asyncio.Queue[Message] = asyncio.Queue()
    lifespan = asyncio.create_task(wsgi({"type": "lifespan"}, messages.get, sent.put))
    messages.put_nowait({"type": "lifespan.startup"})
    assert await sent.get() == {"type": "lifespan.startup.complete"}
    wire = Wire()
    await wsgi(http_scope(), wire.receive, wire.send)
    messages.put_nowait({"type": "lifespan.shutdown"})
    assert await sent.get() == {"type": "lifespan.shutdown.complete"}
    await lifespan
    await asyncio.to_thread(threads[0].join, PATIENCE_SECONDS)
    assert not threads[0].is_alive()


async def test_after_the_lifespan_it_can_be_served_again() -> None:
    wsgi = WsgiApplication(hello)
    for _ in range(2):
        messages = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive(messages: Iterator[str] = messages) -> Message:
            return {"type": next(messages)}

        wire = Wire()
        await wsgi({"type": "lifespan"}, receive, wire.send)
        wire = Wire()
        await wsgi(http_scope(), wire.receive, wire.send)
        assert wire.status == 200


async def test_a_websocket_is_refused() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await WsgiApplication(hello)({"type": "websocket"}, receive, send)
    assert sent == [{"type": "websocket.close"}]


async def test_a_scope_of_another_type_is_refused() -> None:
    with pytest.raises(ValueError, match="no scope of type 'webtransport'"):
        await serve(hello, type="webtransport")
