"""The Autobahn test suite, version 0.8.2, against a WebSocket server that echoes.

    python tests/compliance/autobahn.py --url ws://127.0.0.1:9001 --cases '1.*' '7.*' --json out.json

Nobody has ported the suite from Python 2.7, so it gets an environment of its own in .tools/, with
everything pinned, when it is first wanted. Knows nothing of the server but its URL.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOOLS = HERE.parents[1] / ".tools" / "autobahn"
REQUIREMENTS = HERE / "autobahn-requirements.txt"
VIRTUALENV = "virtualenv==20.21.1"
"""The last one that makes environments of Python 2.7."""

ACCEPTABLE = frozenset(("OK", "INFORMATIONAL"))
"""INFORMATIONAL is what the suite says of the few cases in which RFC 6455 leaves the choice."""


class AutobahnUnavailable(Exception):  # noqa: N818 - it says what is wrong
    """The suite cannot be run here; the message says what to install."""


@dataclass(frozen=True)
class Verdict:
    """What the suite says of one case.

    Attributes:
        case: As "6.4.1".
        behavior: "OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED" or "FAILED".
        behavior_close: The same of the closing handshake.
    """

    case: str
    behavior: str
    behavior_close: str

    @property
    def passed(self) -> bool:
        """Whether there is nothing to mend."""
        return {self.behavior, self.behavior_close} <= ACCEPTABLE


def run(url: str, cases: Sequence[str] = ("*",), timeout: float = 3600) -> list[Verdict]:
    """Run the fuzzing client of the suite.

    Args:
        url: Of an echo server: ws://... or wss://..., whose certificate is not verified.
        cases: Patterns such as "1.*" or "12.1.3"; those without a match are ignored by the suite.
        timeout: How long all of it may take, in seconds.

    Raises:
        AutobahnUnavailable: There is no Python 2.7, or the suite cannot be installed.
        AssertionError: It ran, but not to its end; the message has what it printed.
    """
    program = install()
    with tempfile.TemporaryDirectory() as folder:
        specification = Path(folder) / "fuzzingclient.json"
        specification.write_text(
            json.dumps(
                {
                    "outdir": folder,
                    "servers": [{"agent": "alphorn", "url": url}],
                    "cases": list(cases),
                    "exclude-cases": [],
                    "exclude-agent-cases": {},
                    "options": {"failByDrop": False},
                }
            )
        )
        done = subprocess.run(
            [program, "--mode", "fuzzingclient", "--spec", specification],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        index = Path(folder) / "index.json"
        assert index.exists(), f"the suite did not finish:\n{done.stdout}"
        report = json.loads(index.read_text())["alphorn"]
    verdicts = [Verdict(case, found["behavior"], found["behaviorClose"]) for case, found in report.items()]
    return sorted(verdicts, key=lambda verdict: [int(part) for part in verdict.case.split(".")])


def install() -> Path:
    """Install the suite, unless it is there already, and return its program.

    Raises:
        AutobahnUnavailable: There is no Python 2.7, or installing failed.
    """
    program = TOOLS / "python2.7" / "bin" / "wstest"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    marker = TOOLS / "installed"
    TOOLS.mkdir(parents=True, exist_ok=True)
    with (TOOLS / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test runs in parallel may all want it at once
        if marker.exists() and marker.read_text() == wanted and program.exists():
            return program
        python2 = find_python2()
        host, environment = TOOLS / "virtualenv", TOOLS / "python2.7"
        shutil.rmtree(environment, ignore_errors=True)
        _call(sys.executable, "-m", "venv", "--clear", host)
        _call(host / "bin" / "pip", "install", VIRTUALENV)
        _call(host / "bin" / "virtualenv", "--python", python2, environment)
        _call(environment / "bin" / "pip", "install", "--requirement", REQUIREMENTS)
        marker.write_text(wanted)
    return program


def find_python2() -> Path:
    """Find a CPython 2.7 that starts: AUTOBAHN_PYTHON, one on PATH, or one of pyenv.

    Raises:
        AutobahnUnavailable: There is none.
    """
    for candidate in _python2_candidates():
        try:
            answer = subprocess.run(
                [candidate, "-c", "import sys; print(sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            continue  # such as a shim of pyenv for a version that is not chosen
        if answer.stdout.strip() == "(2, 7)":
            return candidate
    raise AutobahnUnavailable(
        "the Autobahn suite needs CPython 2.7: `pyenv install 2.7.18`, or name one in AUTOBAHN_PYTHON"
    )


def _python2_candidates() -> Iterator[Path]:
    named = os.environ.get("AUTOBAHN_PYTHON")
    if named:
        yield Path(named)
    on_path = shutil.which("python2.7")
    if on_path:
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob("versions/2.7.*/bin/python"), reverse=True)


def _call(*command: str | Path) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        last_lines = "\n".join(done.stdout.splitlines()[-20:])
        raise AutobahnUnavailable(
            f"the Autobahn suite cannot be installed: {' '.join(map(str, command))}\n{last_lines}"
        )


def summarize(verdicts: Sequence[Verdict]) -> dict[str, object]:
    """Return what a report wants to say: how many cases, what was said of them, and which failed."""
    return {
        "suite": "autobahntestsuite 0.8.2",
        "cases": len(verdicts),
        "passed": sum(verdict.passed for verdict in verdicts),
        "behavior": dict(Counter(verdict.behavior for verdict in verdicts)),
        "behaviorClose": dict(Counter(verdict.behavior_close for verdict in verdicts)),
        "informational": [
            verdict.case
            for verdict in verdicts
            if verdict.passed and "INFORMATIONAL" in (verdict.behavior, verdict.behavior_close)
        ],
        "failed": {
            verdict.case: [verdict.behavior, verdict.behavior_close]
            for verdict in verdicts
            if not verdict.passed
        },
    }


def main() -> int:
    """Run the suite as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        description="Run the Autobahn test suite against a WebSocket echo server."
    )
    parser.add_argument("--url", required=True, help="ws://HOST:PORT or wss://HOST:PORT")
    parser.add_argument("--cases", nargs="+", default=["*"], help="patterns, such as '1.*'; all unless given")
    parser.add_argument("--json", type=Path, help="file for the summary")
    arguments = parser.parse_args()
    try:
        verdicts = run(arguments.url, arguments.cases)
    except AutobahnUnavailable as error:
        print(error, file=sys.stderr)
        return 2
    summary = summarize(verdicts)
    if arguments.json:
        arguments.json.write_text(json.dumps(summary, indent=2) + "\n")
    print(json.dumps(summary, indent=2))
    return 0 if verdicts and all(verdict.passed for verdict in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
