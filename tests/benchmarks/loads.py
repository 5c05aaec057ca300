"""What load generators say: wrk and h2load in words, our own clients in JSON."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final


class LoadFailed(Exception):  # noqa: N818 - it says what happened
    """A load generator did not do its work; the message has what it printed."""


@dataclass(frozen=True)
class Load:
    """What a load generator has done.

    Attributes:
        requests: How many were answered.
        seconds: How long that took.
        failed: How many were not, or not with 200.
        p50_ms: Half of them took no longer, in milliseconds; None if nobody knows.
        p99_ms: The same of 99 in 100.
    """

    requests: int
    seconds: float
    failed: int
    p50_ms: float | None = None
    p99_ms: float | None = None


MILLISECONDS: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def read(tool: str, output: str, log: Path) -> Load:
    """Read the output of a load generator.

    Args:
        tool: wrk, h2load, or anything else for a client of our own.
        output: What it printed.
        log: Where h2load has written how long each request took.

    Raises:
        LoadFailed: Nothing was answered, or the output says nothing that we know.
    """
    try:
        load = _read_wrk(output) if tool == "wrk" else _read_h2load(output, log) if tool == "h2load" else None
        load = load or Load(**json.loads(output))
    except (AttributeError, TypeError, ValueError, OSError) as error:
        raise LoadFailed(f"{tool} did not say what it has done\n{output}") from error
    if load.requests == 0:
        raise LoadFailed(f"no request was answered\n{output}")
    return load


def _read_wrk(output: str) -> Load:
    done = _search(r"(\d+) requests in ([\d.]+)(us|ms|s|m)", output)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    return Load(
        requests=int(done[1]),
        seconds=float(done[2]) * MILLISECONDS[done[3]] / 1000,
        failed=sum(map(int, errors.groups() if errors else ())) + int(refused[1] if refused else 0),
        p50_ms=_wrk_percentile(50, output),
        p99_ms=_wrk_percentile(99, output),
    )


def _wrk_percentile(percent: int, output: str) -> float:
    found = _search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m)$", output)
    return float(found[1]) * MILLISECONDS[found[2]]


def _read_h2load(output: str, log: Path) -> Load:
    finished = _search(r"finished in ([\d.]+)(us|ms|s|m), ", output)
    counts = _search(r"(\d+) done, \d+ succeeded, \d+ failed, (\d+) errored, (\d+) timeout", output)
    codes = _search(r"status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx", output)
    done, errored, timeouts = map(int, counts.groups())
    good, moved, refused, broken = map(int, codes.groups())
    # Over HTTP/1.1 h2load overlooks a status without a reason phrase, as Hypercorn sends it.
    overlooked = max(done - errored - good - moved - refused - broken, 0)
    # Each line of the log: when it began, the status, and how long it took in microseconds.
    times = sorted(int(line.split()[2]) / 1000 for line in log.read_text().splitlines())
    return Load(
        requests=good + moved + overlooked,
        seconds=float(finished[1]) * MILLISECONDS[finished[2]] / 1000,
        failed=errored + timeouts + refused + broken,
        p50_ms=times[len(times) // 2] if times else None,
        p99_ms=times[len(times) * 99 // 100] if times else None,
    )


def _search(pattern: str, text: str) -> re.Match[str]:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise ValueError(pattern)
    return found
