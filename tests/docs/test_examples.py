"""Every example of docs/examples: on every carrier, and typed in as its own docstring says."""

import asyncio
import hashlib
import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from alphorn.core.settings import gather
from support.browser import run_browser
from support.carrier import HTTP1_CLEAR, Carrier
from support.process import ServerProcess
from support.serving import Connect, Serve

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
NAMES = sorted(file.stem for file in EXAMPLES.glob("*.py"))


def load(name: str) -> Any:
    """Load an example anew, without making its folder one from which everybody imports."""
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def no_complaints(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What the server had to say against an example; nobody should copy what earns complaints."""
    return lambda: [
        record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")
    ]


# --- On every carrier


async def test_hello_says_over_what(serve: Serve, connect: Connect) -> None:
    url = await serve(load("hello").app)
    response = await connect.fetch(url)
    assert (response.status, response.body) == (
        200,
        f"Hello over HTTP/{connect.carrier.http_version}\n".encode(),
    )


async def test_sse_counts_until_the_client_leaves(
    serve: Serve, connect: Connect, no_complaints: Callable[[], list[str]]
) -> None:
    example = load("sse")
    example.PERIOD_SECONDS = 0.0
    client = await connect(await serve(example.app))
    exchange = await client.request("GET", "/")
    assert (await exchange.head()).field("content-type") == b"text/event-stream"
    events = b""
    while b"data: 2\n\n" not in events:
        events += await exchange.read_chunk()
    assert events.startswith(b"id: 0\ndata: 0\n\nid: 1\ndata: 1\n\nid: 2\n")
    await exchange.abandon()
    connect.close()
    await serve.close()
    assert no_complaints() == []


async def test_sse_ends_with_the_server(serve: Serve, connect: Connect) -> None:
    client = await connect(await serve(load("sse").app))
    exchange = await client.request("GET", "/")
    assert await exchange.read_chunk() == b"id: 0\ndata: 0\n\n"
    stopping = asyncio.create_task(serve.servers[0].stop())
    assert await exchange.read_chunk() == b""
    assert exchange.complete
    client.close()
    await stopping
    assert serve.servers[0].drained


async def test_chat_tells_everybody_what_anybody_says(
    serve: Serve, connect: Connect, no_complaints: Callable[[], list[str]]
) -> None:
    url = await serve(load("chat").app)
    assert b"new WebSocket" in (await connect.fetch(url)).body
    anna, berta, carla = [await connect.websocket(url) for _ in range(3)]
    await anna.send("hoi zäme")
    for member in (anna, berta, carla):
        assert await member.receive() == "hoi zäme"
    await carla.abandon()
    await anna.close()
    await berta.send("so quiet")
    assert await berta.receive() == "so quiet"
    await berta.close()
    assert no_complaints() == []


async def test_upload_answers_with_size_and_digest(serve: Serve, connect: Connect) -> None:
    url = await serve(load("upload").app)
    content = b"alp" * 100_000
    response = await connect.fetch(url, "PUT", content=content)
    assert response.body == f"300000 bytes, {hashlib.sha256(content).hexdigest()}\n".encode()


async def test_upload_does_without_an_answer_for_a_client_that_left(
    serve: Serve, connect: Connect, no_complaints: Callable[[], list[str]]
) -> None:
    client = await connect(await serve(load("upload").app))
    exchange = await client.request("PUT", "/", content=b"the beginning", end=False)
    await exchange.abandon()
    connect.close()
    await serve.close()
    assert no_complaints() == []


async def test_files_sends_its_own_folder_and_nothing_else(serve: Serve, connect: Connect) -> None:
    url = await serve(load("files").app)
    response = await connect.fetch(url, target="/hello.py")
    assert response.body == (EXAMPLES / "hello.py").read_bytes()
    assert response.field("content-type") == b"text/x-python"
    for target in ("/../getting-started.md", "/%2e%2e/getting-started.md", "//etc/passwd", "/hello.py%00"):
        assert (await connect.fetch(url, target=target)).status == 404


async def test_trailers_end_a_call_as_grpc_does(serve: Serve, connect: Connect) -> None:
    url = await serve(load("trailers").app)
    message = b"\0\0\0\0\2hi"
    response = await connect.fetch(url, "POST", "/echo.Echo/Say", [(b"te", b"trailers")], message)
    assert (response.body, response.trailers) == (message, [(b"grpc-status", b"0"), (b"grpc-message", b"")])


async def test_fullduplex_answers_before_the_request_has_ended(serve: Serve, connect: Connect) -> None:
    example = load("fullduplex")
    example.PERIOD_SECONDS = 0.01
    client = await connect(await serve(example.app))
    exchange = await client.request("PUT", "/", content=b"first", end=False)
    said = b""
    while b"5 bytes so far\n" not in said:
        said += await exchange.read_chunk()
    await exchange.send(b" second", end=True)
    while chunk := await exchange.read_chunk():
        said += chunk
    assert said.endswith(b"12 bytes in all\n")


async def test_fullduplex_ends_with_its_client(
    serve: Serve, connect: Connect, no_complaints: Callable[[], list[str]]
) -> None:
    client = await connect(await serve(load("fullduplex").app))
    exchange = await client.request("PUT", "/", content=b"first", end=False)
    await exchange.read_chunk()
    await exchange.abandon()
    connect.close()
    await serve.close()
    assert no_complaints() == []


async def test_wsgi_is_recognised(serve: Serve, connect: Connect) -> None:
    url = await serve(load("wsgi").app)
    response = await connect.fetch(url, "POST", content=b"some text")
    assert response.body == f"POST over HTTP/{connect.carrier.http_version}, 9 bytes\n".encode()


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_chat_works_in_two_tabs(
    serve: Serve,
    carrier: Carrier,  # noqa: ARG001 - chooses for `serve`
    needs_tool: Callable[[str], str],
    tmp_path: Path,
) -> None:
    url = await serve(load("chat").app)
    async with run_browser(needs_tool("chromium"), tmp_path) as browser:
        tabs = [await browser.open(url) for _ in range(2)]
        for tab in tabs:
            await tab.wait_until("socket.readyState === WebSocket.OPEN")
        await tabs[0].evaluate('form[0].value = "hoi zäme"; form.requestSubmit()')
        for tab in tabs:
            await tab.wait_until('log.textContent === "hoi zäme\\n"')
        assert [tab.problems for tab in tabs] == [[], []]


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_a_page_of_the_chat_comes_again_when_its_server_has_gone(
    serve: Serve,
    carrier: Carrier,  # noqa: ARG001 - chooses for `serve`
    needs_tool: Callable[[str], str],
    tmp_path: Path,
) -> None:
    app = load("chat").app
    url = await serve(app)
    async with run_browser(needs_tool("chromium"), tmp_path) as browser:
        tab = await browser.open(url)
        await tab.wait_until("socket.readyState === WebSocket.OPEN")
        await serve.servers[0].stop()
        await serve(app, port=urlsplit(url).port)
        await tab.wait_until('log.textContent.startsWith("closed: 1012")')
        await tab.wait_until("socket.readyState === WebSocket.OPEN")


# --- As a reader would

ANSWERS = {
    "files": re.escape((EXAMPLES / "hello.py").read_text()),
    "fullduplex": r"(\d+ bytes so far\n)+\d+ bytes in all\n",
    "hello": "Hello over HTTP/1.1\n",
    "sse": r"id: 0\ndata: 0\n\n(id: \d\ndata: \d\n\n)*",
    "trailers": "\0\0\0\0\2hi",
    "upload": rf"{(EXAMPLES / 'upload.py').stat().st_size} bytes, [0-9a-f]{{64}}\n",
    "wsgi": "POST over HTTP/1.1, 9 bytes\n",
}
"""What the command under "Try it" prints, as a pattern."""


@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_an_example_can_be_tried_as_it_says(name: str, needs_tool: Callable[[str], str]) -> None:
    needs_tool("curl")
    documentation = load(name).__doc__ or ""
    assert f"\nServe it:  serve {name}:app\n" in documentation
    found = re.search(r"^Try it: +(.+)$", documentation, re.MULTILINE)
    assert found
    with ServerProcess(f"{name}:app", folder=EXAMPLES) as server:
        command = found[1].replace("http://localhost:8000", server.url).replace("curl ", "curl --silent ")
        done = subprocess.run(
            ["sh", "-c", command], cwd=EXAMPLES, capture_output=True, text=True, check=False
        )
        assert re.fullmatch(ANSWERS[name], done.stdout), done
        assert " error " not in server.log, server.log
        assert " warning " not in server.log, server.log


def test_embedded_is_server_and_client_in_one_program() -> None:
    done = subprocess.run(
        [sys.executable, "embedded.py"], cwd=EXAMPLES, capture_output=True, text=True, timeout=20, check=True
    )
    assert re.fullmatch(r"listening on http://127\.0\.0\.1:\d+\nHello from inside\n", done.stdout)
    assert done.stderr == ""


def test_the_settings_in_the_file_are_good() -> None:
    settings = gather({}, {}, str(EXAMPLES / "serve.toml"))
    assert settings.app == "hello:app"
    assert settings.config.ws_max_message == 1024 * 1024


def test_no_example_is_forgotten_here() -> None:
    assert set(NAMES) == {*ANSWERS, "chat", "chat_redis", "embedded"}
