"""Big bodies in either direction: whatever the carrier, the server's memory stays flat.

Each test has a server of its own and holds its peak of resident memory against what it had before.
"""

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.carrier import HTTP2_CLEAR, HTTP2_TLS, HTTP_CARRIERS, WEBSOCKET_CARRIERS, Carrier
from support.http_client import fetch
from support.process import ServerProcess
from support.serving import Connect
from support.waiting import within

MEBIBYTE = 1024 * 1024
UPLOAD_BYTES = 100 * MEBIBYTE
DOWNLOAD_BYTES = 1024 * MEBIBYTE
ALLOWED_GROWTH = 32 * MEBIBYTE
ALLOWED_AHEAD = {"1.1": 16 * MEBIBYTE, "2": MEBIBYTE // 4}
"""How far the application may be ahead of a client that has stopped. HTTP/1.1: the kernel's buffers
on both sides, which Linux lets grow to 6 and 4 MiB, and the high mark. HTTP/2: the stream's window,
the high mark and one message, 64 KiB each."""

FreshServer = Callable[[bool], ServerProcess]


@contextmanager
def flat_memory(server: ServerProcess) -> Iterator[None]:
    """Fail if the server's memory grew by more than 32 MiB at any time during the block."""
    if not Path("/proc/self/status").exists():
        pytest.skip("only Linux tells how much memory another process had at its peak")
    before = server.resident_bytes
    yield
    growth = server.peak_resident_bytes - before
    assert growth < ALLOWED_GROWTH, f"memory grew by {growth / MEBIBYTE:.1f} MiB"


@pytest.fixture(scope="module")
def digest() -> str:
    """What the application answers to an upload of zeros."""
    return f"{UPLOAD_BYTES} {hashlib.sha256(bytes(UPLOAD_BYTES)).hexdigest()}"


@pytest.fixture(scope="module")
def zeros(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of that size, which takes no room on the disk."""
    path = tmp_path_factory.mktemp("upload") / "zeros"
    path.touch()
    os.truncate(path, UPLOAD_BYTES)
    return path


def curl(program: str, carrier: Carrier, server: ServerProcess, *arguments: str) -> str:
    """Run curl over a carrier and return what it writes."""
    flags = {HTTP2_CLEAR: "--http2-prior-knowledge", HTTP2_TLS: "--http2"}
    trust = ["--cacert", server.cafile] if server.cafile else []
    done = subprocess.run(
        [program, "--silent", "--show-error", flags.get(carrier, "--http1.1"), *trust, *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("carrier", HTTP_CARRIERS, ids=str)
def test_an_upload_of_100_mebibytes(
    needs_tool: Callable[[str], str], fresh_server: FreshServer, carrier: Carrier, zeros: Path, digest: str
) -> None:
    server = fresh_server(carrier.secure)
    with flat_memory(server):
        answer = curl(
            needs_tool("curl"), carrier, server, "--upload-file", str(zeros), f"{server.url}/digest"
        )
    assert answer == f"{digest}\n"


@pytest.mark.parametrize("carrier", WEBSOCKET_CARRIERS, ids=str)
async def test_an_upload_of_100_mebibytes_in_messages(
    fresh_server: FreshServer, connect: Connect, carrier: Carrier, digest: str
) -> None:
    server = fresh_server(carrier.secure)
    message = bytes(MEBIBYTE)
    with flat_memory(server):
        websocket = await connect.websocket(server.url, "/digest")
        for _ in range(UPLOAD_BYTES // len(message)):
            await websocket.send(message)
        await websocket.send("how much?")
        async with within("the server to have read it all", 20):
            assert await websocket.receive() == digest
        await websocket.close()


@pytest.mark.parametrize("carrier", HTTP_CARRIERS, ids=str)
def test_a_download_of_1_gibibyte(
    needs_tool: Callable[[str], str], fresh_server: FreshServer, carrier: Carrier
) -> None:
    server = fresh_server(carrier.secure)
    with flat_memory(server):
        size = curl(
            needs_tool("curl"),
            carrier,
            server,
            *("--write-out", "%{size_download}", "--output", os.devnull),
            f"{server.url}/download?bytes={DOWNLOAD_BYTES}",
        )
    assert int(size) == DOWNLOAD_BYTES


@pytest.mark.parametrize("carrier", HTTP_CARRIERS, ids=str)
async def test_a_download_of_1_gibibyte_waits_for_a_slow_reader(
    fresh_server: FreshServer, connect: Connect, carrier: Carrier
) -> None:
    server = fresh_server(carrier.secure)
    with flat_memory(server):
        client = await connect(server.url)
        download = await client.request("GET", f"/download?name=slow&bytes={DOWNLOAD_BYTES}")
        read = 0
        for _ in range(3):
            read += len(await download.read_exactly(8 * MEBIBYTE))
            assert await standstill(server, carrier) - read < ALLOWED_AHEAD[carrier.http_version]
        assert read == 24 * MEBIBYTE
        client.close()


@pytest.mark.parametrize("carrier", WEBSOCKET_CARRIERS, ids=str)
async def test_a_download_of_1_gibibyte_in_messages_waits_for_a_slow_reader(
    fresh_server: FreshServer, connect: Connect, carrier: Carrier
) -> None:
    server = fresh_server(carrier.secure)
    with flat_memory(server):
        websocket = await connect.websocket(server.url, f"/download?name=slow&bytes={DOWNLOAD_BYTES}")
        read = 0
        for _ in range(3):
            for _ in range(128):
                message = await websocket.receive()
                assert isinstance(message, bytes)
                read += len(message)
            assert await standstill(server, carrier) - read < ALLOWED_AHEAD[carrier.http_version]
        assert read == 24 * MEBIBYTE


async def standstill(server: ServerProcess, carrier: Carrier) -> int:
    """Ask until the application gets no further, as one would that does not wait for its client."""
    before, now = -1, 0
    while before != now:
        before, now = now, await progress(server, carrier)
    return now


async def progress(server: ServerProcess, carrier: Carrier) -> int:
    """Ask how much of the download the application has got rid of."""
    response = await fetch(server.url, carrier, target="/sent?name=slow", cafile=server.cafile)
    return int(response.body)
