"""`http.response.pathsend`: a whole file by its path, which ends the response."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from alphorn.core.errors import Disconnected, UnexpectedMessage
from support.carrier import HTTP1_CLEAR, HTTP1_TLS
from support.conversation import Begin, complaints, settled
from support.serving import Connect, Serve
from support.steered_app import SteeredApp

CONTENT = b"".join(number.to_bytes(4, "big") for number in range(100_000))
LARGE = 10 * 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "content").write_bytes(CONTENT)
    return str(tmp_path / "content")


def send_path(path: Any) -> dict[str, Any]:
    return {"type": "http.response.pathsend", "path": path}


async def test_a_path_ends_the_response_with_the_content_of_its_file(begin: Begin, path: str) -> None:
    client, exchange, call = await begin()
    fields = [(b"content-length", b"%d" % len(CONTENT)), (b"content-type", b"text/plain")]
    await call.start(206, fields)
    sending = asyncio.ensure_future(call.send(send_path(path)))

    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (206, CONTENT, True)
    assert response.field("content-type") == b"text/plain"
    await sending
    _, exchange, call = await begin.on(client)
    await call.respond(body=b"next")
    assert (await exchange.response()).body == b"next"


async def test_the_length_may_be_left_to_the_framing(begin: Begin, path: str) -> None:
    _, exchange, call = await begin()
    await call.start()
    sending = asyncio.ensure_future(call.send(send_path(path)))

    response = await exchange.response()
    assert (response.body, response.complete) == (CONTENT, True)
    await sending


async def test_an_empty_file_is_an_empty_body(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    _, exchange, call = await begin()
    await call.start()
    await call.send(send_path(str(tmp_path / "empty")))

    response = await exchange.response()
    assert (response.status, response.body, response.complete) == (200, b"", True)


async def test_what_follows_a_path_is_ignored(begin: Begin, path: str) -> None:
    _, exchange, call = await begin("HEAD")
    await call.start()
    await call.send(send_path(path))
    await call.send(send_path(path))
    await call.body(b"more")

    response = await exchange.response()
    assert (response.body, response.complete) == (b"", True)


async def test_a_path_is_not_mixed_with_other_body(begin: Begin, path: str) -> None:
    _, exchange, call = await begin()
    await call.start()
    await call.body(b"body", more=True)
    with pytest.raises(UnexpectedMessage, match="pathsend' while the response is in its body"):
        await call.send(send_path(path))
    await call.body()

    assert (await exchange.response()).body == b"body"


@pytest.mark.parametrize(
    "what", ["relative", "missing", "folder", "fifo", "nul", "bytes", "none", "forbidden"]
)
async def test_a_path_that_cannot_be_sent_is_refused_while_a_500_is_still_possible(
    begin: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relative").touch()
    os.mkfifo(tmp_path / "fifo")
    paths = {
        "relative": "relative",
        "folder": str(tmp_path),
        "nul": str(tmp_path / "a\0b"),
        "bytes": os.fsencode(tmp_path / "relative"),
        "none": None,
        "forbidden": "/proc/1/mem",
    }
    client, exchange, call = await begin()
    await call.start(200, [(b"content-length", b"10")])
    with pytest.raises(UnexpectedMessage) as raised:
        await call.send(send_path(paths.get(what, str(tmp_path / what))))
    assert not isinstance(raised.value, OSError), "an OSError would say that the client has gone"
    call.crash(raised.value)

    assert (await exchange.response()).status == 500
    _, exchange, call = await begin.on(client)
    await call.respond(404)
    assert (await exchange.response()).status == 404


async def test_a_path_is_not_optional(begin: Begin) -> None:
    _, _, call = await begin()
    await call.start()
    with pytest.raises(UnexpectedMessage, match="path"):
        await call.send({"type": "http.response.pathsend"})


@pytest.mark.parametrize("length", [b"10", b"1000000"])
async def test_a_file_that_is_not_as_long_as_announced_is_not_begun(
    begin: Begin, caplog: pytest.LogCaptureFixture, path: str, length: bytes
) -> None:
    _, exchange, call = await begin()
    await call.start(200, [(b"content-length", length)])
    with pytest.raises(UnexpectedMessage, match="than its content-length") as raised:
        await call.send(send_path(path))
    call.crash(raised.value)

    assert (await exchange.response()).status == 500
    assert complaints(caplog) == ["GET /: exception in the application"]


async def test_a_path_waits_for_a_client_that_does_not_read(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", LARGE)
    _, exchange, call = await begin(receive_window=65535)
    await call.start()
    sending = asyncio.ensure_future(call.send(send_path(str(tmp_path / "large"))))
    await exchange.head()
    await settled(sending.done)
    assert not sending.done()
    body = await exchange.read()
    await sending

    assert (len(body), exchange.complete) == (LARGE, True)


async def test_the_file_is_closed_however_sending_ends(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", LARGE)
    _, exchange, call = await begin(receive_window=65535)
    await call.start()
    sending = asyncio.ensure_future(call.send(send_path(str(tmp_path / "large"))))
    await exchange.head()
    assert open_files(tmp_path) == ["large"]
    await exchange.abandon()
    with pytest.raises(Disconnected):
        await sending

    assert open_files(tmp_path) == []


def open_files(folder: Path) -> list[str]:
    """The names of the files in `folder` that this process has open, where the system can tell."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("no /proc")
    found = []
    for entry in list(descriptors.iterdir()):
        try:
            target = entry.readlink()
        except OSError:  # the descriptor of the listing itself
            continue
        if target.parent == folder:
            found.append(target.name)
    return found


@pytest.mark.parametrize("carrier", [HTTP1_CLEAR, HTTP1_TLS], ids=str)
async def test_http_1_0_takes_a_path_up_to_the_end_of_its_connection(
    serve: Serve, connect: Connect, app: SteeredApp, path: str
) -> None:
    client = await connect.http1(await serve(app))
    exchange = await client.request_raw(b"GET / HTTP/1.0\r\n\r\n")
    call = await app.next_call()
    await call.start()
    sending = asyncio.ensure_future(call.send(send_path(path)))

    response = await exchange.response()
    assert (response.body, response.complete) == (CONTENT, True)
    await sending
