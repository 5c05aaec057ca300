"""h2load: ten thousand requests, ten connections, ten at a time on each, and none of them fails."""

import re
import subprocess
from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("server", "protocol"),
    [("clear", "h2c"), ("secure", "h2"), ("clear", "http/1.1"), ("secure", "http/1.1")],
)
def test_no_request_fails(
    needs_tool: Callable[[str], str], request: pytest.FixtureRequest, server: str, protocol: str
) -> None:
    url = request.getfixturevalue(server).url
    negotiate = f"--no-tls-proto={protocol}" if server == "clear" else f"--npn-list={protocol}"
    done = subprocess.run(
        [needs_tool("h2load"), "-n", "10000", "-c", "10", "-m", "10", negotiate, url],
        capture_output=True,
        text=True,
        check=True,
    )
    counts = re.search(
        r"requests: 10000 total, 10000 started, 10000 done, (\d+) succeeded, (\d+) failed, (\d+) errored",
        done.stdout,
    )
    assert counts, done.stdout
    assert counts.groups() == ("10000", "0", "0")
    assert re.search(r"status codes: 10000 2xx, 0 3xx, 0 4xx, 0 5xx", done.stdout)
    assert f"Application protocol: {protocol}" in done.stdout
