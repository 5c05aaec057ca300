"""What only a real socket shows of HTTP/1: resets, last words that arrive, files that the kernel sends."""

import asyncio
import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from compliance.http1_corpus import chunked, post, target
from support.carrier import HTTP1_CLEAR, HTTP1_TLS
from support.clock import ManualClock
from support.conversation import settled
from support.serving import Connect, Serve
from support.steered_app import SteeredApp
from support.wire import Ending

clear = pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
clear_and_tls = pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)

WRITE_SECONDS = 60.0  # the default of write_timeout

MEBIBYTE = 1024 * 1024


class LargeFile(NamedTuple):
    """A file, larger than all buffers between server and client, and what is in it."""

    path: Path
    data: bytes


@pytest.fixture
def large_file(tmp_path: Path) -> LargeFile:
    file = LargeFile(tmp_path / "large", os.urandom(MEBIBYTE) * 16)
    file.path.write_bytes(file.data)
    return file


# ---------------------------------------------------------------------- last words


@clear_and_tls
@pytest.mark.parametrize(
    "head", [chunked(b"500000\r\n"), post(b"Content-Length: 6000000")], ids=["chunks", "length"]
)
async def test_an_early_answer_reaches_a_client_that_is_still_sending(
    serve: Serve, connect: Connect, app: SteeredApp, head: bytes
) -> None:
    client = await connect.http1(await serve(app))
    exchange = await client.request_raw(head, method="POST")
    call = await app.next_call()
    sending = asyncio.ensure_future(client.send_raw(bytes(5 * MEBIBYTE)))
    await call.respond(413, body=b"too large")
    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (413, b"too large", True)
    client.close()
    await asyncio.wait({sending})
    sending.exception()


@clear_and_tls
async def test_a_refusal_reaches_a_client_that_is_still_sending(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect.http1(await serve(app))
    exchange = await client.request_raw(chunked(b"nonsense\r\n"), method="POST")
    sending = asyncio.ensure_future(client.send_raw(bytes(5 * MEBIBYTE)))
    response = await exchange.response()
    assert (response.status, response.field("connection")) == (400, b"close")
    client.close()
    await asyncio.wait({sending})
    sending.exception()


@clear_and_tls
async def test_a_refused_client_sees_the_end_at_once(serve: Serve, connect: Connect, app: SteeredApp) -> None:
    client = await connect.http1(await serve(app))
    exchange = await client.request_raw(b"nonsense\r\n\r\n")
    assert (await exchange.response()).status == 400
    await client.wait_closed()
    assert client.wire.ending is Ending.FIN


@clear
async def test_a_client_that_leaves_with_a_reset_leaves_nothing_behind(
    serve: Serve, connect: Connect, app: SteeredApp
) -> None:
    client = await connect.http1(await serve(app))
    await client.request("GET", "/")
    call = await app.next_call()
    await call.start()
    await call.body(b"hello", more=True)
    await call.receive()
    client.abandon()
    assert await call.receive() == {"type": "http.disconnect"}
    with pytest.raises(OSError, match="gone"):
        await call.body(b"late")


# ---------------------------------------------------------------------- files


async def send_path(app: SteeredApp, file: LargeFile) -> None:
    """Answer the next request with a file."""
    call = await app.next_call()
    await call.start(200, [(b"content-length", b"%d" % len(file.data))])
    await call.send({"type": "http.response.pathsend", "path": str(file.path)})


@clear_and_tls
async def test_a_file_arrives_whole_and_the_connection_goes_on(
    serve: Serve, connect: Connect, app: SteeredApp, large_file: LargeFile
) -> None:
    client = await connect.http1(await serve(app))
    for _ in range(2):
        exchange = await client.request("GET", "/")
        sending = asyncio.ensure_future(send_path(app, large_file))
        assert await exchange.read() == large_file.data
        await sending


@clear
async def test_parts_of_a_file_are_chunks_among_others(
    serve: Serve, connect: Connect, app: SteeredApp, large_file: LargeFile
) -> None:
    client = await connect.http1(await serve(app))
    exchange = await client.request("GET", "/")
    call = await app.next_call()
    await call.start()
    await call.body(b"before", more=True)
    with large_file.path.open("rb") as file:
        part: dict[str, Any] = {"type": "http.response.zerocopysend", "file": file, "more_body": True}
        await call.send({**part, "offset": 10, "count": 100})
        await call.body(b"between", more=True)
        await call.send({**part, "offset": 0, "count": 5})
    await call.body(b"behind")
    data = large_file.data
    assert await exchange.read() == b"before" + data[10:110] + b"between" + data[:5] + b"behind"
    assert exchange.complete


@clear
async def test_a_file_waits_for_a_client_that_does_not_read_and_others_do_not(
    serve: Serve, connect: Connect, app: SteeredApp, large_file: LargeFile
) -> None:
    url = await serve(app)
    slow = await connect.http1(url, receive_buffer=8192)
    exchange = await slow.request("GET", "/")
    sending = asyncio.ensure_future(send_path(app, large_file))
    other = await connect.http1(url)
    await settled(sending.done)
    quick = await other.request("GET", "/")
    await (await app.next_call()).respond(body=b"quick")
    assert (await quick.response()).body == b"quick"
    assert not sending.done()
    assert await exchange.read() == large_file.data
    await sending


@clear
async def test_a_file_that_nobody_reads_is_given_up(
    serve: Serve, connect: Connect, app: SteeredApp, large_file: LargeFile, clock: ManualClock
) -> None:
    client = await connect.http1(await serve(app, clock=clock), receive_buffer=8192)
    exchange = await client.request("GET", "/")
    sending = asyncio.ensure_future(send_path(app, large_file))
    await exchange.head()
    await settled(sending.done)
    clock.advance(WRITE_SECONDS - 1)
    await settled(sending.done)
    assert not sending.done()
    clock.advance(2)
    with pytest.raises(OSError, match="gone"):
        await sending


@clear
async def test_a_client_that_leaves_in_the_middle_of_a_file_has_gone(
    serve: Serve, connect: Connect, app: SteeredApp, large_file: LargeFile
) -> None:
    client = await connect.http1(await serve(app), receive_buffer=8192)
    exchange = await client.request("GET", "/")
    sending = asyncio.ensure_future(send_path(app, large_file))
    await exchange.head()
    client.abandon()
    with pytest.raises(OSError, match="gone"):
        await sending


@clear
async def test_a_file_that_becomes_shorter_cuts_its_response(
    serve: Serve, connect: Connect, app: SteeredApp, large_file: LargeFile
) -> None:
    client = await connect.http1(await serve(app), receive_buffer=8192)
    exchange = await client.request("GET", "/")
    sending = asyncio.ensure_future(send_path(app, large_file))
    await exchange.read_exactly(100)
    os.truncate(large_file.path, 10 * MEBIBYTE)
    await exchange.read()
    with pytest.raises(RuntimeError, match="shorter"):
        await sending
    assert not exchange.complete


@clear
async def test_the_answers_before_a_file_leave_first(
    serve: Serve, connect: Connect, app: SteeredApp, large_file: LargeFile
) -> None:
    client = await connect.http1(await serve(app))
    first = await client.request_raw(target(b"/first") + target(b"/second"))
    await (await app.next_call()).respond(body=bytes(500_000))
    sending = asyncio.ensure_future(send_path(app, large_file))
    assert len(await first.read()) == 500_000
    second = await client.request_raw(b"")
    assert await second.read() == large_file.data
    await sending
