"""WebSocket as the Autobahn test suite judges it: the fast part of it; `make compliance` runs it all."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from compliance import autobahn
from compliance.autobahn import AutobahnUnavailable, Verdict
from support.certificates import Pair
from support.process import ServerProcess

HERE = Path(__file__).parent

# Left out are the large messages (9) and most of the compressed ones (12 and 13), which take minutes.
FAST_CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "12.1.1", "13.1.1", "13.3.1", "13.7.1"]
FAST_COUNT = 251


def judge(url: str, cases: Sequence[str]) -> list[Verdict]:
    try:
        return autobahn.run(url, cases)
    except AutobahnUnavailable as reason:
        if os.environ.get("ALPHORN_REQUIRE_TOOLS") == "1":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.mark.timeout(600)  # the first run installs the suite
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_the_suite_finds_nothing_to_mend(scheme: str, certificate: Pair) -> None:
    secure = certificate if scheme == "wss" else None
    with ServerProcess("autobahn_app:app", "--no-access-log", folder=HERE, certificate=secure) as server:
        verdicts = judge(server.url.replace("http", "ws", 1), FAST_CASES)

    assert [verdict for verdict in verdicts if not verdict.passed] == []
    assert len(verdicts) == FAST_COUNT
