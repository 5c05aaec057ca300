"""Node's HTTP/2 client: requests, uploads at once, a WebSocket and a PING on one connection."""

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from support.process import ServerProcess

SCRIPT = Path(__file__).with_name("node_http2.mjs")


@pytest.mark.parametrize("server", ["clear", "secure"])
def test_everything_on_one_connection(
    needs_tool: Callable[[str], str], request: pytest.FixtureRequest, server: str
) -> None:
    visited: ServerProcess = request.getfixturevalue(server)
    arguments = [visited.url] + ([visited.cafile] if visited.cafile else [])
    done = subprocess.run(
        [needs_tool("node"), str(SCRIPT), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    learnt = json.loads(done.stdout)
    scheme = visited.url.partition(":")[0]
    assert learnt["hello"] == {"status": 200, "body": f"hello over {scheme} with HTTP/2\n"}
    digest = hashlib.sha256(bytes(200_000)).hexdigest()
    assert learnt["uploads"] == [{"status": 200, "body": f"200000 {digest}\n"}] * 50
    assert bytes.fromhex(learnt["frame"]) == b"\x81\x02hi"
    assert learnt["pinged"] is True
