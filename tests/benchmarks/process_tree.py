"""What a process and all its descendants use: processor time and memory, from /proc."""

import os
import re
from pathlib import Path
from typing import Final

PROC: Final = Path("/proc")
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """Return the process and its descendants, as they are now."""
    children: dict[int, list[int]] = {}
    for folder in PROC.iterdir():
        if folder.name.isdecimal() and (fields := _stat(int(folder.name))):
            children.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [pid]
    for each in found:  # grows meanwhile
        found += children.get(each, [])
    return found


def cpu_seconds(pid: int) -> float:
    """Return how long the tree has run so far, in user mode and in the kernel, in steps of 10 ms."""
    ticks = 0
    for each in tree(pid):
        if fields := _stat(each):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def memory_bytes(pid: int, *, anonymous: bool = False) -> int:
    """Return the memory of the tree: its proportional set size, which counts shared pages once.

    Args:
        pid: The root of the tree.
        anonymous: Leave out mapped files, whose share falls when any other process maps them too.
    """
    field = "Pss_Anon" if anonymous else "Pss"
    total = 0
    for each in tree(pid):
        try:
            text = (PROC / str(each) / "smaps_rollup").read_text()
        except OSError:
            continue  # it has ended
        found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    return total


def _stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state (the third) on; none if it has ended."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()  # a name may contain anything
