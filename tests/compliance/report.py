"""Prove conformance and write it down: runs every suite whole and writes docs/compliance.md.

    python tests/compliance/report.py

The suites: h2spec (strict, TLS and clear), the Autobahn test suite (all cases, ws and wss), the
corpus of raw HTTP/1.1 requests, and the ASGI conversations over every carrier.
"""

import asyncio
import datetime as dt
import importlib.metadata
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
PAGE: Final = ROOT / "docs" / "compliance.md"
sys.path.insert(0, str(HERE.parent))

from compliance import autobahn, h2spec, http1_corpus_run  # noqa: E402 - found through the line above
from support.certificates import Pair, authority  # noqa: E402
from support.engine import ENGINE  # noqa: E402
from support.process import ServerProcess  # noqa: E402

LIBRARIES: Final = ("alphorn", "h2", "hpack", "h11", "wsproto", "websockets", "uvloop")
_ROW: Final = re.compile(r"^\| ([^|]+?) \| (\d+) \| (\d+) \|", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """How one suite went.

    Attributes:
        suite: Its name, as the report shows it.
        passed: How many of its cases passed.
        total: How many there are.
        notes: What has to be said about it.
    """

    suite: str
    passed: int
    total: int
    notes: str = ""


def published(page: str) -> dict[str, tuple[int, int]]:
    """Read from the text of docs/compliance.md how many cases of each suite passed, and of how many."""
    return {suite: (int(passed), int(total)) for suite, passed, total in _ROW.findall(page)}


def run_all(certificate: Pair) -> Iterator[Result]:
    """Run every suite, one after the other."""
    yield run_h2spec("h2spec, TLS", certificate)
    yield run_h2spec("h2spec, clear", None)
    yield run_autobahn("Autobahn, ws", None)
    yield run_autobahn("Autobahn, wss", certificate)
    passed, total = asyncio.run(http1_corpus_run.run())
    yield Result("HTTP/1.1 corpus", passed, total, "raw requests, each whole and in hostile pieces")
    yield run_asgi()


def run_h2spec(suite: str, certificate: Pair | None) -> Result:
    """Run h2spec, strict, in all its groups."""
    counts = h2spec.run(certificate)
    return Result(suite, counts.passed, counts.total, counts.notes)


def run_autobahn(suite: str, certificate: Pair | None) -> Result:
    """Run all cases of the Autobahn test suite."""
    with ServerProcess("autobahn_app:app", "--no-access-log", folder=HERE, certificate=certificate) as server:
        verdicts = autobahn.run(server.url.replace("http", "ws", 1))
    failed = [verdict.case for verdict in verdicts if not verdict.passed]
    informational = sum("INFORMATIONAL" in (verdict.behavior, verdict.behavior_close) for verdict in verdicts)
    notes = f"{informational} of them informational, as the suite itself says: RFC 6455 leaves the choice"
    return Result(suite, len(verdicts) - len(failed), len(verdicts), "; failed: ".join([notes, *failed]))


def run_asgi() -> Result:
    """Run the conversations of tests/carriers and tests/core."""
    with tempfile.TemporaryDirectory() as folder:
        junit = Path(folder) / "junit.xml"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-n",
                "2",
                f"--junit-xml={junit}",
                "tests/carriers",
                "tests/core",
            ],
            cwd=ROOT,
            check=False,
        )
        suite = next(ET.parse(junit).getroot().iter("testsuite"))
        total, failed = (
            int(suite.get("tests", 0)),
            int(suite.get("failures", 0)) + int(suite.get("errors", 0)),
        )
        skipped = int(suite.get("skipped", 0))
    return Result(
        "ASGI", total - failed - skipped, total - skipped, "conversations over every carrier, and the core"
    )


def write(results: list[Result], today: dt.date) -> str:
    """Return the page that says how it went."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    rows = "\n".join(
        f"| {result.suite} | {result.passed} | {result.total} | {result.notes} |" for result in results
    )
    return f"""# Conformance

Written by `make compliance` on {today.isoformat()}; not by hand. CI runs h2spec, the corpus, the ASGI
conversations and the fast part of Autobahn for every change, and fails if a count falls.

| suite | passed | of | notes |
|---|---|---|---|
{rows}

On CPython {platform.python_version()}, {platform.system()}, with `--engine {ENGINE}`: {versions};
h2spec {h2spec.VERSION}; autobahntestsuite 0.8.2.
"""


def main(show: Callable[[str], None] = print) -> int:
    """Run everything, print a line for each suite, write the page; return the exit status."""
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for result in run_all(authority().issue(Path(folder))):
            show(f"{result.suite}: {result.passed} passed, {result.total - result.passed} failed")
            results.append(result)
    PAGE.write_text(write(results, dt.datetime.now(dt.UTC).date()))
    return 0 if all(result.passed == result.total > 0 for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
