"""Static files for real clients: downloads that go on where they broke off, parts, and what browsers keep."""

import email.parser
import email.policy
import gzip
import os
import random
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.certificates import Pair, authority
from support.process import ServerProcess

HERE = Path(__file__).parent
CONTENT = random.Random(1).randbytes(300_000)
TEXT = b"a line of text\n" * 1000
HOUR_AGO = 1_700_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("public")
    (folder / "content.bin").write_bytes(CONTENT)
    (folder / "text.txt").write_bytes(TEXT)
    (folder / "text.txt.gz").write_bytes(gzip.compress(TEXT))
    for file in folder.iterdir():
        os.utime(file, (HOUR_AGO, HOUR_AGO))
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, certificate: Pair, cafile: str) -> Iterator[ServerProcess]:
    options = ("--static", f"/assets={folder}")
    with ServerProcess(
        "one_app:app", *options, folder=HERE, certificate=certificate, cafile=cafile, quiet=True
    ) as server:
        yield server


@pytest.fixture(scope="module", params=["HTTP/1.1", "HTTP/2"])
def visitor(request: pytest.FixtureRequest, server: ServerProcess) -> Iterator[httpx.Client]:
    tls: ssl.SSLContext = authority().client_context()
    two = request.param == "HTTP/2"
    with httpx.Client(
        base_url=server.url, http1=not two, http2=two, verify=tls, trust_env=False, timeout=20
    ) as client:
        yield client


def test_a_compressed_sibling_is_the_same_text(visitor: httpx.Client) -> None:
    response = visitor.get("/assets/text.txt")
    assert response.headers["content-encoding"] == "gzip"
    assert response.content == TEXT
    plain = visitor.get("/assets/text.txt", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == TEXT
    assert plain.headers["etag"] != response.headers["etag"]


def test_what_is_kept_is_not_sent_again(visitor: httpx.Client) -> None:
    first = visitor.get("/assets/content.bin")
    assert first.content == CONTENT
    for name, value in (
        ("if-none-match", first.headers["etag"]),
        ("if-modified-since", first.headers["last-modified"]),
    ):
        again = visitor.get("/assets/content.bin", headers={name: value})
        assert (again.status_code, again.content) == (304, b"")


POSITIONS = st.integers(0, len(CONTENT) + 10)


@given(first=POSITIONS, last=POSITIONS)
def test_any_range_is_what_slicing_gives(visitor: httpx.Client, first: int, last: int) -> None:
    response = visitor.get("/assets/content.bin", headers={"range": f"bytes={first}-{last}"})
    if last < first:
        assert (response.status_code, response.content) == (200, CONTENT)
    elif first >= len(CONTENT):
        assert (response.status_code, response.headers["content-range"]) == (416, f"bytes */{len(CONTENT)}")
    else:
        assert (response.status_code, response.content) == (206, CONTENT[first : last + 1])


@given(st.lists(POSITIONS, min_size=4, max_size=8, unique=True))
def test_any_ranges_are_what_a_mail_program_reads(visitor: httpx.Client, positions: list[int]) -> None:
    ordered = sorted(positions)
    pairs = list(zip(ordered[::2], ordered[1::2], strict=False))
    asked = ",".join(f"{first}-{last}" for first, last in pairs)
    response = visitor.get("/assets/content.bin", headers={"range": f"bytes={asked}"})
    expected = [CONTENT[first : last + 1] for first, last in pairs if first < len(CONTENT)]
    if not expected:
        assert response.status_code == 416
    elif len(expected) == 1:
        assert (response.status_code, response.content) == (206, expected[0])
    else:
        head = f"content-type: {response.headers['content-type']}\r\n\r\n".encode()
        # Binary parts end at a boundary, but this parser takes line ends in them for its own.
        boundary = response.headers["content-type"].partition("boundary=")[2].encode()
        parts = response.content.split(b"\r\n--" + boundary)[1:-1]
        assert [part.partition(b"\r\n\r\n")[2] for part in parts] == expected
        parser = email.parser.BytesParser(policy=email.policy.HTTP)
        message = parser.parsebytes(head + response.content)
        assert message.is_multipart()
        assert [part.get_content_type() for part in message.iter_parts()] == [
            "application/octet-stream"
        ] * len(expected)


def test_curl_goes_on_where_a_download_broke_off(
    server: ServerProcess, tmp_path: Path, needs_tool: Callable[[str], str]
) -> None:
    part = tmp_path / "content.bin"
    part.write_bytes(CONTENT[:100_000])
    assert server.cafile is not None
    done = subprocess.run(
        [
            *(needs_tool("curl"), "--silent", "--show-error", "--fail", "--cacert", server.cafile),
            *("--continue-at", "-", "--output", str(part), f"{server.url}/assets/content.bin"),
        ],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert part.read_bytes() == CONTENT
