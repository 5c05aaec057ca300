"""nghttp: the reference client of HTTP/2, with what other clients seldom do: padding, CONTINUATION, small windows."""

import hashlib
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.process import ServerProcess

NeedsTool = Callable[[str], str]


def nghttp(needs_tool: NeedsTool, *arguments: str) -> str:
    """Run nghttp; fail with what it says."""
    done = subprocess.run(
        [needs_tool("nghttp"), "--no-verify-peer", "--timeout=20", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[ERROR]" not in done.stderr, done.stderr
    return done.stdout


@pytest.fixture(params=["clear", "secure"])
def server(request: pytest.FixtureRequest) -> ServerProcess:
    chosen: ServerProcess = request.getfixturevalue(request.param)
    return chosen


def test_an_upload_padded_continued_and_with_trailers(
    needs_tool: NeedsTool, server: ServerProcess, tmp_path: Path
) -> None:
    content = b"alphorn" * 150_000  # about a megabyte: more than any window holds
    upload = tmp_path / "upload"
    upload.write_bytes(content)
    answer = nghttp(
        needs_tool,
        "--padding=200",
        "--continuation",
        "--trailer=x-digest: none",
        "--expect-continue",
        "--header-table-size=0",
        "--header=:method: POST",
        f"--data={upload}",
        f"{server.url}/digest",
    )
    assert answer == f"{len(content)} {hashlib.sha256(content).hexdigest()}\n"


def test_small_windows_slow_a_download_down_and_do_not_stop_it(
    needs_tool: NeedsTool, server: ServerProcess
) -> None:
    said = nghttp(
        needs_tool,
        "--null-out",
        "--verbose",
        "--window-bits=10",
        "--connection-window-bits=16",
        f"{server.url}/download?bytes=300000",
    )
    sizes = [int(size) for size in re.findall(r"recv DATA frame <length=(\d+),", said)]
    assert sum(sizes) == 300_000
    assert max(sizes) <= 1023  # of a window of 2^10 - 1


def test_many_requests_on_one_connection_with_and_without_priorities(
    needs_tool: NeedsTool, server: ServerProcess
) -> None:
    for options in [], ["--no-dep"], ["--no-rfc7540-pri"], ["--weight=1"]:
        said = nghttp(
            needs_tool,
            "--null-out",
            "--stat",
            "--multiply=50",
            *options,
            f"{server.url}/",
            f"{server.url}/nowhere",
        )
        assert len(re.findall(r"\b200\s+\d+ /$", said, re.MULTILINE)) == 50
        assert len(re.findall(r"\b404\s+\d+ /nowhere$", said, re.MULTILINE)) == 50
