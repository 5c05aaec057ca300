"""What a server takes of the computer, all its processes together (Linux)."""

import contextlib
import os
import re
from enum import Enum
from pathlib import Path
from typing import Final

from benchmarks.process_tree import tree

AVAILABLE: Final = Path("/proc/self/smaps_rollup").exists()
"""Whether the system tells."""


class Rank(Enum):
    """Who goes first on a core."""

    FIRST = "before everybody: what is measured, so that others do not spoil it"
    HIGH = (
        "before most: the same, where real-time priority spoils it, which lets others in for 50 ms a second"
    )
    LAST = "behind everybody: attackers and servers that nobody looks at, so that they slow no neighbour down"


def resident(pid: int) -> int:
    """Return the bytes that are in memory now."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> int:
    """Return the most of them since `forget_peak`."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Count the peak from now on."""
    for each in tree(pid):
        Path(f"/proc/{each}/clear_refs").write_text("5")


def descriptors(pid: int) -> int:
    """Return how many files and sockets are open."""
    return sum(len(list(Path(f"/proc/{each}/fd").iterdir())) for each in tree(pid))


def settle_on(core: int, rank: Rank, pid: int = 0) -> None:
    """Keep a process to one core, where there are two, and give it a rank, where we may.

    Args:
        core: Its number among those that we may use.
        rank: Whether it goes before or behind what else this computer does.
        pid: The process, or 0 for this one.
    """
    cores = sorted(os.sched_getaffinity(0))
    for each in tree(pid) if pid else [os.getpid()]:
        for thread in (int(entry.name) for entry in Path(f"/proc/{each}/task").iterdir()):
            if len(cores) > 1:
                os.sched_setaffinity(thread, {cores[core]})
            with contextlib.suppress(PermissionError):
                if rank is Rank.FIRST:
                    os.sched_setscheduler(thread, os.SCHED_RR, os.sched_param(1))
                else:
                    os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
                    os.setpriority(os.PRIO_PROCESS, thread, 10 if rank is Rank.LAST else -20)


def _status(pid: int, field: str) -> int:
    texts = [Path(f"/proc/{each}/status").read_text() for each in tree(pid)]
    found = [re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE) for text in texts]
    return sum(int(match[1]) * 1024 for match in found if match)
