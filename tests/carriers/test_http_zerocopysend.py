"""`http.response.zerocopysend`: parts of open files, among the pieces of a body."""

import asyncio
import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphorn.core.errors import Disconnected, UnexpectedMessage
from support.carrier import HTTP1_CLEAR, HTTP1_TLS, Carrier
from support.conversation import Begin, settled
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

CONTENT = b"".join(number.to_bytes(4, "big") for number in range(100_000))
LARGE = 10 * 1024 * 1024
"""More than sockets hold, so that sending waits for a client that does not read."""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[io.BufferedReader]:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    with path.open("rb") as opened:
        yield opened


@pytest.fixture
def large(tmp_path: Path) -> Iterator[io.BufferedReader]:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, LARGE)
    with path.open("rb") as opened:
        yield opened


def zero_copy(file: Any, **more: Any) -> dict[str, Any]:
    return {"type": "http.response.zerocopysend", "file": file, **more}


async def test_a_whole_file_is_a_whole_response(begin: Begin, file: io.BufferedReader) -> None:
    client, exchange, call = await begin()
    await call.start(200, [(b"content-length", b"%d" % len(CONTENT))])
    sending = asyncio.ensure_future(call.send(zero_copy(file)))

    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (200, CONTENT, True)
    await sending
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")
    assert (await exchange.response()).body == b"next"


async def test_a_file_of_unknown_length_is_framed_like_any_body(
    begin: Begin, file: io.BufferedReader
) -> None:
    _, exchange, call = await begin()
    await call.start()
    sending = asyncio.ensure_future(call.send(zero_copy(file)))

    response = await exchange.response()
    assert (response.body, response.complete) == (CONTENT, True)
    await sending


@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (1000, None, CONTENT[1000:]),
        (0, 1000, CONTENT[:1000]),
        (1000, 1000, CONTENT[1000:2000]),
        (1000, 0, b""),
        (len(CONTENT) - 10, 1000, CONTENT[-10:]),
        (len(CONTENT), None, b""),
        (len(CONTENT) + 1000, 5, b""),
    ],
)
async def test_a_part_of_a_file_is_where_offset_and_count_say(
    begin: Begin, file: io.BufferedReader, offset: int, count: int | None, expected: bytes
) -> None:
    _, exchange, call = await begin()
    file.seek(5)
    await call.start()
    part = {"offset": offset} if count is None else {"offset": offset, "count": count}
    sending = asyncio.ensure_future(call.send(zero_copy(file, **part)))

    response = await exchange.response()
    assert (response.body, response.complete) == (expected, True)
    await sending
    assert file.tell() == 5


async def test_without_an_offset_the_file_goes_on_where_it_stands(
    begin: Begin, file: io.BufferedReader
) -> None:
    _, exchange, call = await begin()
    assert file.read(10) == CONTENT[:10]  # the buffer of the file object is further ahead
    await call.start()
    await call.send(zero_copy(file, count=1000, more_body=True))
    assert file.tell() == 1010
    await call.send(zero_copy(file, count=1000, more_body=True))
    assert file.read(10) == CONTENT[2010:2020]
    await call.body()

    assert (await exchange.response()).body == CONTENT[10:2010]


async def test_files_and_bytes_may_be_mixed(begin: Begin, file: io.BufferedReader) -> None:
    _, exchange, call = await begin()
    await call.start()
    await call.body(b"before ", more=True)
    await call.send(zero_copy(file, offset=0, count=1000, more_body=True))
    await call.body(b" between ", more=True)
    await call.send(zero_copy(file, offset=2000, count=1000, more_body=True))
    await call.body(b" after")

    assert (await exchange.response()).body == (
        b"before " + CONTENT[:1000] + b" between " + CONTENT[2000:3000] + b" after"
    )


async def test_a_file_with_trailers_behind_it(begin: Begin, file: io.BufferedReader) -> None:
    _, exchange, call = await begin("GET", "/", [(b"te", b"trailers")])
    await call.start(200, trailers=True)
    await call.send(zero_copy(file, count=1000))
    await call.send({"type": "http.response.trailers", "headers": [(b"x-checksum", b"abc")]})

    response = await exchange.response()
    assert (response.body, response.trailers) == (CONTENT[:1000], [(b"x-checksum", b"abc")])


async def test_the_file_stays_open_and_the_applications(begin: Begin, file: io.BufferedReader) -> None:
    _, exchange, call = await begin()
    await call.start()
    await call.send(zero_copy(file, count=10))
    await exchange.wait_closed()

    assert not file.closed
    assert file.read(1) == CONTENT[10:11]


async def test_head_and_304_read_no_file(begin: Begin, file: io.BufferedReader) -> None:
    client, exchange, call = await begin("HEAD")
    await call.start(200, [(b"content-length", b"%d" % len(CONTENT))])
    await call.send(zero_copy(file))
    response = await exchange.response()
    assert (response.body, response.field("content-length")) == (b"", b"%d" % len(CONTENT))
    _, exchange, call = await begin.on(client)
    await call.start(304)
    await call.send(zero_copy(file))

    assert (await exchange.response()).body == b""


@pytest.mark.parametrize("word", ["longer", "shorter"])
async def test_a_file_that_is_not_as_long_as_announced_is_not_begun(
    begin: Begin, file: io.BufferedReader, word: str
) -> None:
    _, exchange, call = await begin()
    await call.start(200, [(b"content-length", b"1000")])
    with pytest.raises(UnexpectedMessage, match=f"{word} than its content-length"):
        await call.send(zero_copy(file, count=2000 if word == "longer" else 500))
    await call.send(zero_copy(file, count=1000))

    assert (await exchange.response()).body == CONTENT[:1000]


@pytest.mark.parametrize(
    "what", ["bytes", "BytesIO", "closed", "None", "str", "pipe", "folder", "no-position"]
)
async def test_what_is_no_open_regular_file_is_refused(begin: Begin, tmp_path: Path, what: str) -> None:
    _, exchange, call = await begin()
    await call.start()
    with not_a_file(what, tmp_path) as thing, pytest.raises(UnexpectedMessage, match="regular file"):
        await call.send(zero_copy(thing))
    with pytest.raises(UnexpectedMessage, match="regular file"):
        await call.send({"type": "http.response.zerocopysend"})
    await call.body(b"instead")

    response = await exchange.response()
    assert (response.status, response.body) == (200, b"instead")


@contextlib.contextmanager
def not_a_file(what: str, folder: Path) -> Iterator[Any]:
    if what == "pipe":
        reader, writer = os.pipe()
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            yield pipe
    elif what == "folder":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            yield Descriptor(descriptor)
        finally:
            os.close(descriptor)
    elif what in ("closed", "no-position"):
        (folder / "file").touch()
        with (folder / "file").open("rb") as opened:
            if what == "closed":
                opened.close()
            yield opened if what == "closed" else Descriptor(opened.fileno())
    else:
        yield {"bytes": b"x", "BytesIO": io.BytesIO(b"x"), "str": "/etc/hostname"}.get(what)


class Descriptor:
    """Has a descriptor and nothing else."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        return self.number


@pytest.mark.parametrize("number", [-1, 1.5, "1"])
@pytest.mark.parametrize("key", ["offset", "count"])
async def test_numbers_that_are_none_are_refused(
    begin: Begin, file: io.BufferedReader, key: str, number: Any
) -> None:
    _, exchange, call = await begin()
    await call.start()
    with pytest.raises(UnexpectedMessage, match=f"the {key} of zerocopysend is a number of bytes"):
        await call.send(zero_copy(file, **{key: number}))
    await call.body(b"instead")

    assert (await exchange.response()).body == b"instead"


async def test_a_file_waits_for_a_client_that_does_not_read(begin: Begin, large: io.BufferedReader) -> None:
    _, exchange, call = await begin(receive_window=65535)
    await call.start()
    sending = asyncio.ensure_future(call.send(zero_copy(large)))
    await exchange.head()
    await settled(sending.done)
    assert not sending.done()
    body = await exchange.read()
    await sending

    assert (len(body), exchange.complete) == (LARGE, True)


async def test_while_a_file_is_sent_nothing_else_can_be(begin: Begin, large: io.BufferedReader) -> None:
    _, exchange, call = await begin(receive_window=65535)
    await call.start()
    sending = asyncio.ensure_future(call.send(zero_copy(large)))
    await exchange.head()
    for message in ({"type": "http.response.body", "body": b"x"}, zero_copy(large)):
        with pytest.raises(UnexpectedMessage, match="while the response is sending a file; legal: nothing"):
            await call.send(message)
    body = await exchange.read()
    await sending

    assert (len(body), exchange.complete) == (LARGE, True)


async def test_an_application_that_gives_up_a_file_can_cut_the_response_only(
    begin: Begin, large: io.BufferedReader
) -> None:
    """How much of the file has left, nobody knows: no byte after it would be where the client expects it."""
    _, exchange, call = await begin(receive_window=65535)
    await call.start()
    sending = asyncio.ensure_future(call.send(zero_copy(large, more_body=True)))
    await exchange.head()
    await settled(sending.done)
    sending.cancel()
    await asyncio.wait([sending])
    call.finish()
    await exchange.read()

    assert not exchange.complete


async def test_a_client_that_leaves_while_a_file_is_sent_wakes_the_application(
    begin: Begin, large: io.BufferedReader
) -> None:
    _, exchange, call = await begin(receive_window=65535)
    await call.start()
    sending = asyncio.ensure_future(call.send(zero_copy(large)))
    await exchange.head()
    await settled(sending.done)
    await exchange.abandon()

    with pytest.raises(Disconnected):
        await sending
    with pytest.raises(Disconnected):
        await call.body(b"more", more=True)


async def test_an_application_that_returns_while_its_file_is_sent_cuts_the_response(
    begin: Begin, large: io.BufferedReader
) -> None:
    _, exchange, call = await begin(receive_window=65535)
    await call.start()
    sending = asyncio.ensure_future(call.send(zero_copy(large)))
    await exchange.head()
    await settled(sending.done)
    call.finish()
    await exchange.read()

    assert not exchange.complete
    await asyncio.wait([sending])


async def test_a_file_that_becomes_shorter_while_it_is_sent_cuts_the_response(
    begin: Begin, large: io.BufferedReader
) -> None:
    _, exchange, call = await begin(receive_window=65535)
    await call.start(200, [(b"content-length", b"%d" % LARGE)])
    sending = asyncio.ensure_future(call.send(zero_copy(large)))
    await exchange.head()
    await settled(sending.done)
    os.truncate(large.name, LARGE // 2)
    reading = asyncio.ensure_future(exchange.read())
    with pytest.raises(UnexpectedMessage, match="became shorter while it was sent") as raised:
        await sending
    call.crash(raised.value)

    assert len(await reading) < LARGE
    assert not exchange.complete


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
async def test_http_1_0_takes_a_file_up_to_the_end_of_its_connection(
    serve: Serve, connect: Connect, app: SteeredApp, file: io.BufferedReader
) -> None:
    client = await connect.http1(await serve(app))
    exchange = await client.request_raw(b"GET / HTTP/1.0\r\n\r\n")
    call = await app.next_call()
    await call.start()
    sending = asyncio.ensure_future(call.send(zero_copy(file)))

    response = await exchange.response()
    assert (response.body, response.complete) == (CONTENT, True)
    await sending


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR], ids=str)
async def test_the_kernel_sends_where_nothing_has_to_be_encrypted(
    begin: Begin, large: io.BufferedReader, carrier: Carrier
) -> None:
    _, exchange, call = await begin()
    stream = call._receive.__self__._stream  # type: ignore[attr-defined]
    assert stream.zero_copy
    assert carrier.name == "http1-clear"
    await call.start()
    sending = asyncio.ensure_future(call.send(zero_copy(large)))
    await settled(sending.done)
    # Nothing of the file is in this process, although the client has not read it.
    assert stream._transport.get_write_buffer_size() == 0
    assert len(await exchange.read()) == LARGE
    await sending
