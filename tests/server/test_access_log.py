"""The access log of a real server: where its lines go, when they are there, and what the operator may choose."""

import http.client
import json
import re
import signal
from pathlib import Path

import pytest

from alphorn import Config, Server
from alphorn.core.errors import ConfigError
from alphorn.core.log import access_log, configure_logging
from support.carrier import HTTP1_CLEAR, HTTP2_TLS, Carrier
from support.logs import unconfigured
from support.process import PATIENCE_SECONDS, ServerProcess, block_until
from support.serving import DESCRIPTORS, Connect, Serve
from support.steered_app import SteeredApp

APP = """
import asyncio
import os
import sys
import time

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        if os.path.exists("hold"):
            print("held", file=sys.stderr, flush=True)
        while os.path.exists("hold"):
            await asyncio.sleep(0.01)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/block":
        print("blocked", file=sys.stderr, flush=True)
        while True:  # in one long sleep, a signal that another thread gets would wait for its end
            time.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
LINE = r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d info    127\.0\.0\.1:\d+ "GET %s HTTP/1\.1" 200 5 \d+\.\dms'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


def get(server: ServerProcess, *paths: str) -> None:
    """Make requests on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_SECONDS)
    for path in paths:
        connection.request("GET", path)
        assert connection.getresponse().read() == b"hello"
    connection.close()


def lines(path: Path, count: int) -> list[str]:
    """Wait for so many lines in a file and return them."""
    block_until(lambda: path.exists() and path.read_text().count("\n") >= count, f"{count} lines")
    found = path.read_text().splitlines()
    assert len(found) == count, found
    return found


def test_without_a_file_lines_go_to_standard_output(folder: Path) -> None:
    output = folder / "output"
    with ServerProcess("shop:app", folder=folder, output=output) as server:
        get(server, "/1", "/2")
        first, second = lines(output, 2)
    assert re.fullmatch(LINE % "/1", first)
    assert re.fullmatch(LINE % "/2", second)
    assert "GET" not in server.log


def test_a_format_with_a_time_begins_as_it_says(folder: Path) -> None:
    output = folder / "output"
    option = "--access-log-format=%(h)s %(t)s %(U)s"
    with ServerProcess("shop:app", option, folder=folder, output=output) as server:
        get(server, "/1")
        (line,) = lines(output, 1)
    assert re.fullmatch(r"127\.0\.0\.1 \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] /1", line)


def test_a_file_that_was_moved_away_is_opened_again(folder: Path) -> None:
    file, old = folder / "access.log", folder / "access.log.1"
    file.write_text("from before\n")
    with ServerProcess("shop:app", "--access-log-file", "access.log", folder=folder) as server:
        get(server, "/1")
        assert re.fullmatch(LINE % "/1", lines(file, 2)[1])
        file.rename(old)
        get(server, "/2")
        assert len(lines(old, 3)) == 3
        server.send_signal(signal.SIGUSR1)
        server.wait_for("opened the log files again")
        get(server, "/3")
        assert re.fullmatch(LINE % "/3", lines(file, 1)[0])
        assert len(lines(old, 3)) == 3


def test_every_worker_opens_a_file_again_and_so_does_one_that_is_starting(folder: Path) -> None:
    file, old, hold = folder / "access.log", folder / "access.log.1", folder / "hold"
    options = ["--workers", "2", "--access-log-file", "access.log"]
    with ServerProcess("shop:app", *options, folder=folder) as server:
        server.wait_for("is ready", nth=2)
        get(server, "/1")
        lines(file, 1)
        hold.touch()
        server.send_signal(signal.SIGTTIN)
        server.wait_for("held")
        file.rename(old)
        server.send_signal(signal.SIGUSR1)
        for number in (1, 2):
            server.wait_for(f"worker {number}: opened the log files again")
        assert "worker 3: opened" not in server.log
        hold.unlink()
        server.wait_for("worker 3: opened the log files again")
        for _ in range(9):  # whichever worker answers
            get(server, "/2")
        assert re.fullmatch(LINE % "/2", lines(file, 9)[0])
        lines(old, 1)


def test_a_file_that_cannot_be_opened_again_goes_on(folder: Path) -> None:
    (folder / "logs").mkdir()
    file = folder / "logs" / "access.log"
    with ServerProcess("shop:app", "--access-log-file", "logs/access.log", folder=folder) as server:
        (folder / "logs").rename(folder / "elsewhere")
        server.send_signal(signal.SIGUSR1)
        server.wait_for("logs/access.log cannot be opened again, so the old file goes on")
        get(server, "/1")
        assert lines(folder / "elsewhere" / file.name, 1)


def test_the_files_of_a_log_configuration_are_opened_again(folder: Path) -> None:
    config = {
        "handlers": {"file": {"class": "logging.FileHandler", "filename": "all.log"}},
        "loggers": {"alphorn.access": {"handlers": ["file"], "level": "INFO"}},
    }
    (folder / "logs.json").write_text(json.dumps(config))
    file = folder / "all.log"
    with ServerProcess("shop:app", "--log-config", "logs.json", folder=folder) as server:
        get(server, "/1")
        assert '"GET /1 HTTP/1.1" 200 5 ' in lines(file, 1)[0]
        file.rename(folder / "all.log.1")
        server.send_signal(signal.SIGUSR1)
        server.wait_for("opened the log files again")
        get(server, "/2")
        assert '"GET /2 HTTP/1.1" 200 5 ' in lines(file, 1)[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_is_complained_about_once_and_harms_nobody(folder: Path) -> None:
    with ServerProcess("shop:app", "--access-log-file", "/dev/full", folder=folder) as server:
        get(server, "/1")
        server.wait_for("the access log cannot be written, so lines are lost: [Errno 28] No space left")
        get(server, "/2", "/3")
    assert server.log.count("cannot be written") == 1


def test_a_process_that_is_ended_at_once_has_written_its_lines(folder: Path) -> None:
    file = folder / "access.log"
    server = ServerProcess("shop:app", "--access-log-file", "access.log", folder=folder)
    block = http.client.HTTPConnection("127.0.0.1", server.port)
    # Both in one read: the loop never turns between the first answer and the application that blocks it.
    block.connect()
    block.sock.sendall(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /block HTTP/1.1\r\nHost: a\r\n\r\n")
    server.wait_for("blocked")
    server.send_signal(signal.SIGTERM)
    assert server.stop(signal.SIGINT) < 0
    block.close()
    assert re.fullmatch(LINE % "/1", lines(file, 1)[0])


# ---------------------------------------------------------------------- JSON


def test_in_json_every_line_of_both_logs_is_an_object(folder: Path) -> None:
    output = folder / "output"
    with ServerProcess("shop:app", "--log-format", "json", folder=folder, output=output) as server:
        get(server, "/1?q")
        (line,) = lines(output, 1)
    told = json.loads(line)
    assert (told["path"], told["query"], told["status"], told["bytes"]) == ("/1", "q", 200, 5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told["time"])
    for line in server.log.splitlines():
        news = json.loads(line)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", news["time"])
        assert news["level"] == "info"
        assert news["message"]


@unconfigured()
def test_in_json_an_exception_is_a_member_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("info", "json")
    access_log.error("it said %s", "no", exc_info=ValueError("so\nso"))
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert (told["level"], told["message"]) == ("error", "it said no")
    assert told["exception"].endswith("ValueError: so\nso")


# ---------------------------------------------------------------------- what a wire knows


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP2_TLS], ids=str)
async def test_stream_and_tls_are_those_of_the_connection(
    serve: Serve, connect: Connect, app: SteeredApp, carrier: Carrier, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "alphorn.access")
    form = "%(H)s %(scheme)s stream %(stream)s over %(tls)s, %({x-kind}o)s"
    client = await connect(await serve(app, access_log_format=form))
    for _ in range(2):
        exchange = await client.request("GET", "/")
        await (await app.next_call()).respond(fields=[(b"x-kind", b"horn")])
        await exchange.response()
    told = [record.getMessage() for record in caplog.records if record.name == "alphorn.access"]
    assert (
        told
        == {
            "1.1": ["HTTP/1.1 http stream - over -, horn"] * 2,
            "2": [f"HTTP/2 https stream {stream} over TLSv1.3, horn" for stream in (1, 3)],
        }[carrier.http_version]
    )


# ---------------------------------------------------------------------- configuration


LOG_CONFIGS = {
    "logs.json": '{"root": {"level": "DEBUG", "handlers": ["out"]}, "handlers": {"out": '
    '{"class": "logging.StreamHandler", "formatter": "mine", "stream": "ext://sys.stderr"}}, '
    '"formatters": {"mine": {"format": "mine: %(message)s"}}}',
    "logs.toml": '[root]\nlevel = "DEBUG"\nhandlers = ["out"]\n[formatters.mine]\nformat = "mine: %(message)s"\n'
    '[handlers.out]\nclass = "logging.StreamHandler"\nformatter = "mine"\nstream = "ext://sys.stderr"\n',
    "logs.yaml": "root: {level: DEBUG, handlers: [out]}\nformatters: {mine: {format: 'mine: %(message)s'}}\n"
    "handlers: {out: {class: logging.StreamHandler, formatter: mine, stream: 'ext://sys.stderr'}}\n",
}


@pytest.mark.parametrize("name", LOG_CONFIGS)
def test_a_log_configuration_gets_the_lines_of_both_logs(folder: Path, name: str) -> None:
    if name.endswith(".yaml"):
        pytest.importorskip("yaml")
    (folder / name).write_text(LOG_CONFIGS[name])
    with ServerProcess("shop:app", "--log-config", name, folder=folder) as server:
        get(server, "/1")
        assert server.wait_for("/1 HTTP/1.1").startswith("mine: 127.0.0.1:")
        assert server.wait_for("listening on").startswith("mine: ")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("logs.ini", "", "logs.ini is in no known language; name it .json, .toml or .yaml"),
        ("none.json", None, "cannot read none.json: No such file or directory; check the path"),
        ("logs.json", "{", "logs.json cannot be understood: Expecting property name"),
        ("logs.toml", "a = ", "logs.toml cannot be understood: Invalid value"),
        ("logs.yaml", "a: {", "logs.yaml cannot be understood: while parsing"),
        ("logs.json", "[]", "logs.json is not an object with keys such as handlers and loggers"),
        (
            "logs.json",
            '{"handlers": {"out": {"class": "logging.Nothing"}}}',
            "logs.json: Unable to configure handler 'out'",
        ),
    ],
)
def test_a_log_configuration_that_is_none_is_one_line(
    folder: Path, name: str, content: str | None, complaint: str
) -> None:
    if name.endswith(".yaml"):
        pytest.importorskip("yaml")
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(AssertionError) as raised:
        ServerProcess("shop:app", "--log-config", name, folder=folder)
    (line,) = str(raised.value).splitlines()[1:]
    assert line.startswith(f"Error: --log-config: {complaint}")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--access-log-format", "%(nobody)s"], "--access-log-format: there is no atom %(nobody)s"),
        (["--access-log-file", "none/a.log"], "--access-log-file: cannot write none/a.log: No such file"),
        (
            ["--log-format", "json", "--access-log-format", "%(h)s"],
            "--access-log-format cannot stand beside --log-format",
        ),
    ],
)
def test_a_mistake_is_one_line_at_the_start(folder: Path, options: list[str], complaint: str) -> None:
    with pytest.raises(AssertionError) as raised:
        ServerProcess("shop:app", *options, folder=folder)
    (line,) = str(raised.value).splitlines()[1:]
    assert line.startswith(f"Error: {complaint}")


async def test_a_start_that_fails_holds_no_file(tmp_path: Path, app: SteeredApp) -> None:
    before = len(list(DESCRIPTORS.iterdir()))
    server = Server(app, Config(bind=("unix:/none/here",), access_log_file=str(tmp_path / "access.log")))
    with pytest.raises(ConfigError):
        await server.start()
    assert len(list(DESCRIPTORS.iterdir())) == before
