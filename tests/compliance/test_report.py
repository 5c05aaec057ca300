"""What docs/compliance.md says still holds: no suite has fewer cases now than were published."""

import subprocess
import sys

import pytest

from compliance import h2spec
from compliance.http1_corpus_run import CASES
from compliance.report import PAGE, ROOT, published


@pytest.fixture(scope="module")
def counts() -> dict[str, tuple[int, int]]:
    return published(PAGE.read_text())


def test_every_suite_was_run_and_passed_whole(counts: dict[str, tuple[int, int]]) -> None:
    assert list(counts) == [
        "h2spec, TLS",
        "h2spec, clear",
        "Autobahn, ws",
        "Autobahn, wss",
        "HTTP/1.1 corpus",
        "ASGI",
    ]
    assert all(passed == total for passed, total in counts.values())


def test_no_count_has_fallen(counts: dict[str, tuple[int, int]]) -> None:
    assert counts["h2spec, TLS"][1] == counts["h2spec, clear"][1] == h2spec.CASES
    assert counts["Autobahn, ws"] == counts["Autobahn, wss"]
    assert len(CASES) >= counts["HTTP/1.1 corpus"][1]


def test_no_asgi_conversation_was_dropped(counts: dict[str, tuple[int, int]]) -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "tests/carriers", "tests/core"]
    collected = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert sum("::" in line for line in collected.splitlines()) >= counts["ASGI"][1]
