"""curl: the protocol is the client's choice, at the same port."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.process import ServerProcess

NeedsTool = Callable[[str], str]


def curl(needs_tool: NeedsTool, server: ServerProcess, *arguments: str) -> str:
    """Run curl; fail with what it says."""
    trust = ("--cacert", server.cafile) if server.cafile else ()
    done = subprocess.run(
        [needs_tool("curl"), "--silent", "--show-error", "--fail", "--max-time", "20", *trust, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("flag", "version"),
    [("--http1.0", "1.0"), ("--http1.1", "1.1"), ("--http2", "1.1"), ("--http2-prior-knowledge", "2")],
)
def test_in_the_clear_prior_knowledge_chooses(
    needs_tool: NeedsTool, clear: ServerProcess, flag: str, version: str
) -> None:
    # `--http2` asks for an upgrade to h2c, which RFC 9113 dropped and this server overlooks.
    assert curl(needs_tool, clear, flag, clear.url) == f"hello over http with HTTP/{version}\n"


@pytest.mark.parametrize(
    ("flag", "version"), [("--http1.0", "1.0"), ("--http1.1", "1.1"), ("--http2", "2"), ("--no-alpn", "1.1")]
)
def test_over_tls_alpn_chooses(needs_tool: NeedsTool, secure: ServerProcess, flag: str, version: str) -> None:
    assert curl(needs_tool, secure, flag, secure.url) == f"hello over https with HTTP/{version}\n"


@pytest.mark.parametrize("flag", ["--http1.1", "--http2"])
def test_many_requests_share_a_connection(needs_tool: NeedsTool, secure: ServerProcess, flag: str) -> None:
    connections = curl(
        needs_tool,
        secure,
        flag,
        "--write-out",
        "%{num_connects} ",
        "--output",
        "/dev/null",
        f"{secure.url}/?[1-5]",
    )
    assert connections.split() == ["1", "0", "0", "0", "0"]


@pytest.mark.parametrize("flag", ["--http1.1", "--http2"])
def test_an_upload_that_waits_for_100_continue(
    needs_tool: NeedsTool, secure: ServerProcess, flag: str
) -> None:
    answer = curl(
        needs_tool,
        secure,
        flag,
        "--header",
        "expect: 100-continue",
        "--data",
        "0123456789",
        f"{secure.url}/digest",
    )
    assert answer.startswith("10 ")


@pytest.mark.parametrize("flag", ["--http1.1", "--http2"])
def test_an_answer_that_comes_before_the_upload_has_ended_is_seen(
    needs_tool: NeedsTool, secure: ServerProcess, tmp_path: Path, flag: str
) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(bytes(1024 * 1024))
    arguments = (
        "--no-fail",
        "--write-out",
        "%{http_code}",
        "--header",
        "expect:",
        "--data-binary",
        f"@{upload}",
    )
    answer = curl(needs_tool, secure, flag, *arguments, f"{secure.url}/nowhere")
    assert answer == "there is no /nowhere\n404"
