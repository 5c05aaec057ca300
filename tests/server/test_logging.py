"""The two logs: what a line says, what never gets into one, and whose configuration counts."""

import asyncio
import io
import logging
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alphorn.core.asgi import Receive, Scope, Send
from alphorn.core.log import (
    access_log,
    configure_logging,
    error_log,
    escape,
    format_address,
)
from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, HTTP_CARRIERS, WEBSOCKET_CARRIERS, Carrier
from support.clock import ManualClock
from support.conversation import settled
from support.logs import unconfigured
from support.process import ServerProcess
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

HELLO = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


@pytest.fixture
def access(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """The access lines so far; asked for before the server starts."""
    caplog.set_level(logging.INFO, "alphorn.access")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "alphorn.access"]


# --- Access lines

LINE = re.compile(r'127\.0\.0\.1:\d+ "(?P<request>[^"]*)" (?P<status>\d+|-) (?P<length>\d+) (?P<took>\S+)')


async def test_an_access_line_says_who_what_how_and_how_long(
    serve: Serve, connect: Connect, app: SteeredApp, carrier: Carrier, access: Callable[[], list[str]]
) -> None:
    client = await connect(await serve(app))
    exchange = await client.request("POST", "/a%20b?q=1&r", content=b"xyz")
    call = await app.next_call()
    await call.respond(201, body=b"hello")
    assert (await exchange.response()).status == 201
    (line,) = access()
    found = LINE.fullmatch(line)
    assert found, line
    assert found["request"] == f"POST /a%20b?q=1&r HTTP/{carrier.http_version}"
    assert (found["status"], found["length"]) == ("201", "5")
    assert re.fullmatch(r"\d+\.\dms", found["took"])


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
async def test_the_duration_is_that_of_the_answer(
    serve: Serve,
    connect: Connect,
    app: SteeredApp,
    clock: ManualClock,
    access: Callable[[], list[str]],
) -> None:
    client = await connect(await serve(app, clock=clock))
    exchange = await client.request("GET", "/")
    call = await app.next_call()
    clock.advance(2.5)
    await call.respond()
    await exchange.response()
    assert access()[0].endswith(" 200 0 2500.0ms")


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
async def test_a_client_that_left_before_the_answer_has_no_status(
    serve: Serve, connect: Connect, app: SteeredApp, access: Callable[[], list[str]]
) -> None:
    client = await connect(await serve(app))
    await client.request("GET", "/")
    call = await app.next_call()
    await call.receive()
    client.abandon()
    assert (await call.receive())["type"] == "http.disconnect"
    (line,) = access()
    found = LINE.fullmatch(line)
    assert found, line
    assert (found["status"], found["length"]) == ("-", "0")


@pytest.mark.parametrize("carrier", WEBSOCKET_CARRIERS, ids=str)
async def test_a_websocket_is_one_line_at_its_end(
    serve: Serve, connect: Connect, app: SteeredApp, carrier: Carrier, access: Callable[[], list[str]]
) -> None:
    opening = asyncio.ensure_future(connect.websocket(await serve(app), "/chat"))
    call = await app.next_call()
    await call.accept()
    websocket = await opening
    assert access() == []
    await websocket.close()
    assert (await call.receive())["type"] == "websocket.disconnect"
    expected = {"1.1": '"GET /chat HTTP/1.1" 101', "2": '"CONNECT /chat HTTP/2" 200'}
    (line,) = access()
    assert expected[carrier.http_version] in line


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_CLEAR], ids=str)
async def test_a_handshake_that_is_denied_has_taken_its_time(
    serve: Serve,
    connect: Connect,
    app: SteeredApp,
    clock: ManualClock,
    access: Callable[[], list[str]],
) -> None:
    opening = asyncio.ensure_future(connect.websocket(await serve(app, clock=clock), "/chat"))
    call = await app.next_call()
    clock.advance(2.5)
    await call.receive()
    await call.send({"type": "websocket.close"})
    await opening
    assert access()[0].endswith(" 403 9 2500.0ms")


@pytest.mark.parametrize("carrier", HTTP_CARRIERS, ids=str)
async def test_without_access_log_there_is_none(
    serve: Serve, connect: Connect, app: SteeredApp, access: Callable[[], list[str]]
) -> None:
    client = await connect(await serve(app, access_log=False))
    exchange = await client.request("GET", "/")
    await (await app.next_call()).respond()
    await exchange.response()
    assert access() == []


# --- Refusals: what no application sees has its line as well


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
@pytest.mark.parametrize("kind", ["no host", "too large", "garbage"])
async def test_a_refused_request_is_one_line(
    serve: Serve, connect: Connect, app: SteeredApp, access: Callable[[], list[str]], kind: str
) -> None:
    status, raw = {
        "no host": ("400", b"GET / HTTP/1.1\r\n\r\n"),
        "too large": ("431", b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"x" * 2000 + b"\r\n\r\n"),
        "garbage": ("400", b"\x00\x01\x02\r\n\x1b[31m\r\n\r\n" * 3),
    }[kind]
    client = await connect.http1(await serve(app, max_head_bytes=1024))
    response = await (await client.request_raw(raw)).response()
    (line,) = access()
    found = LINE.fullmatch(line)
    assert found, line
    assert found.groups() == ("-", status, str(len(response.body)), "-")


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_a_head_that_takes_too_long_is_one_line(
    serve: Serve,
    connect: Connect,
    app: SteeredApp,
    clock: ManualClock,
    access: Callable[[], list[str]],
) -> None:
    client = await connect.http1(await serve(app, clock=clock))
    exchange = await client.request("GET", "/")
    await (await app.next_call()).respond()
    await exchange.response()
    late = await client.request_raw(b"GET / HTTP/1.1\r\n")
    await settled(access)
    clock.advance(10)
    assert (await late.response()).status == 408
    assert '"-" 408 ' in access()[-1]


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_a_refused_handshake_says_what_was_asked_for(
    serve: Serve, connect: Connect, app: SteeredApp, access: Callable[[], list[str]]
) -> None:
    client = await connect.http1(await serve(app))
    exchange = await client.request("GET", "/chat", [(b"upgrade", b"websocket"), (b"connection", b"upgrade")])
    assert (await exchange.response()).status == 426
    (line,) = access()
    assert '"GET /chat HTTP/1.1" 426 ' in line


@pytest.mark.parametrize("carrier", [HTTP2_CLEAR], ids=str)
async def test_a_refused_stream_says_what_was_asked_for(
    serve: Serve, connect: Connect, app: SteeredApp, access: Callable[[], list[str]]
) -> None:
    client = await connect.http2(await serve(app))
    exchange = await client.open([(b":method", b"CONNECT"), (b":authority", b"example.org:443")])
    assert (await exchange.response()).status == 501
    (line,) = access()
    assert " 501 0 -" in line
    assert "CONNECT" in line


# --- What never gets into a line


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("/plain?a=b%20c", "/plain?a=b%20c"),
        ("/a\r\nforged", r"/a\x0d\x0aforged"),
        ("/\x1b[31mred", r"/\x1b[31mred"),
        ('/"quoted"\\', r"/\x22quoted\x22\x5c"),
        ("/caf\xe9\x7f\x85", r"/caf\xe9\x7f\x85"),
        ("/\u2028\U0001f4a9", r"/\u2028\U0001f4a9"),
    ],
)
def test_control_characters_are_escaped(text: str, escaped: str) -> None:
    assert escape(text) == escaped


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (("127.0.0.1", 80), "127.0.0.1:80"),
        (("::1", 80), "[::1]:80"),
        (("/run/a.sock", None), "/run/a.sock"),
        (None, "-"),
    ],
)
def test_addresses_are_written_as_people_write_them(
    address: tuple[str, int | None] | None, text: str
) -> None:
    assert format_address(address) == text


# --- On the terminal


class Terminal(io.StringIO):
    """Standard error, or standard output, of a process on a terminal."""

    def isatty(self) -> bool:
        return True


@unconfigured()
def test_errors_go_to_stderr_and_requests_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    error_log.info("news")
    error_log.debug("details")
    access_log.info("a request")
    out, err = capsys.readouterr()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d info    a request\n", out)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d info    news\n", err)


@unconfigured()
def test_the_level_is_as_asked(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("error")
    access_log.info("a request")
    error_log.warning("a warning")
    error_log.error("an error")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    configure_logging("debug")  # once more in the same process
    error_log.debug("details")
    assert capsys.readouterr().err.count("\n") == 1


@unconfigured()
@pytest.mark.parametrize("variable", [None, "NO_COLOR", "TERM"])
def test_colours_are_for_terminals_whose_owner_wants_them(
    monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    if variable is not None:
        monkeypatch.setenv(variable, "dumb")
    configure_logging("info")
    error_log.error("oh")
    assert ("\x1b[31merror  \x1b[0m oh" in terminal.getvalue()) == (variable is None)
    assert ("\x1b" in terminal.getvalue()) == (variable is None)


@unconfigured()
def test_there_are_no_colours_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info")
    error_log.error("oh")
    assert "\x1b" not in capsys.readouterr().err


@unconfigured()
@pytest.mark.parametrize("before", [True, False])
def test_whoever_configures_the_root_logger_gets_the_lines(
    capsys: pytest.CaptureFixture[str], before: bool
) -> None:
    theirs = io.StringIO()
    if not before:
        configure_logging("info")
    logging.basicConfig(stream=theirs, format="theirs: %(message)s", level=logging.WARNING)
    if before:
        configure_logging("info")
    error_log.info("news")
    access_log.info("a request")
    assert theirs.getvalue() == "theirs: news\ntheirs: a request\n"
    assert capsys.readouterr() == ("", "")


@unconfigured()
def test_a_handler_of_ones_own_replaces_ours(capsys: pytest.CaptureFixture[str]) -> None:
    theirs = io.StringIO()
    error_log.addHandler(logging.StreamHandler(theirs))
    error_log.setLevel(logging.ERROR)
    configure_logging("info")
    error_log.info("news")
    error_log.error("oh")
    assert theirs.getvalue() == "oh\n"
    assert capsys.readouterr().err == ""


def test_a_configuration_that_names_a_logger_is_kept() -> None:
    script = """
import logging.config
from alphorn.core.log import access_log, configure_logging, enable_logging, error_log
configure_logging("info")
quiet = {"handlers": [], "propagate": False}
logging.config.dictConfig({"version": 1, "loggers": {"alphorn.access": quiet}})
enable_logging()
access_log.info("a request")
error_log.info("news")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "news" in done.stderr, "a configuration that does not name a logger must not silence it"


def test_an_application_that_configures_logging_does_not_silence_the_server(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        f"import logging.config\nlogging.config.dictConfig({{'version': 1}})\n{HELLO}"
    )
    with ServerProcess("shop:app", folder=tmp_path) as server:
        assert server.wait_for("going on without lifespan")
        assert server.wait_for("listening on")


# --- The start banner


@pytest.mark.parametrize(
    ("settings", "spoken"),
    [
        ({}, "HTTP/2, HTTP/1.1, WebSocket"),
        ({"http1": False}, "HTTP/2, WebSocket"),
        ({"http2": False, "h2c": False}, "HTTP/1.1, WebSocket"),
    ],
    ids=["all", "no http1", "no http2"],
)
async def test_the_banner_says_where_and_what(
    serve: Serve,
    carrier: Carrier,
    caplog: pytest.LogCaptureFixture,
    settings: dict[str, Any],
    spoken: str,
) -> None:
    caplog.set_level(logging.INFO, "alphorn.error")
    url = await serve(SteeredApp(), **settings)
    names = "; certificate for 127.0.0.1, ::1, localhost" if carrier.secure else ""
    banner = next(line for line in caplog.messages if line.startswith("listening"))
    before, _, certificate = banner.partition(";")
    assert before.rstrip(")") == f"listening on {url} ({spoken}"
    assert sorted(certificate.rstrip(")").removeprefix(" certificate for ").split(", ")) == sorted(
        names.removeprefix("; certificate for ").split(", ")
    )


# --- Faults of an application


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_an_exception_is_logged_with_its_traceback_and_an_escaped_path(
    serve: Serve, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        raise ZeroDivisionError("a bug of theirs")

    response = await connect.fetch(await serve(app, lifespan="off"), target="/%0d%0aforged")
    assert response.status == 500
    assert b"bug" not in response.body
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == r"GET /\x0d\x0aforged: exception in the application"
    assert record.exc_info
    assert record.exc_info[0] is ZeroDivisionError
