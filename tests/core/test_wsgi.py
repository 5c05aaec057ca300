"""WSGI applications behind ASGI: what they are told, how they read, and which scopes are theirs."""

# ruff: noqa: ARG001 - not every application here needs its whole environ

import asyncio
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

from alphorn.core.asgi import Message
from alphorn.core.wsgi import WsgiApplication, make_environ
from support.wsgi_wire import PATIENCE_SECONDS, PLAIN, Wire, http_scope, serve

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
