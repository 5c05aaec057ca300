"""What a benchmark ran on: machine, versions, and what is missing here."""

import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import alphorn

LOAD_GENERATORS = {
    "wrk": ("wrk --version", "apt install wrk / brew install wrk"),
    "h2load": ("h2load --version", "apt install nghttp2-client / brew install nghttp2"),
}
"""How to learn the version of each, and how to get it."""

REQUIREMENTS = Path(__file__).with_name("peers-requirements.txt")
LIBRARIES = ("h11", "h2", "hpack", "wsproto", "websockets", "uvloop")


def describe() -> dict[str, str]:
    """Return what this machine is, and how busy it was when asked."""
    return {
        "processor": _processor(),
        "processors": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "load average before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def our_versions() -> dict[str, str]:
    """Return the versions of our server and its libraries."""
    return {"alphorn": alphorn.__version__} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def package_versions(python: Path) -> dict[str, str]:
    """Return the versions of what the peers' environment was made for; none if it is not there."""
    if not python.exists():
        return {}
    names = re.findall(r"^([\w-]+)", REQUIREMENTS.read_text(), re.MULTILINE)
    program = (
        "import importlib.metadata as m, json, platform;"
        "found = {d.name.lower(): d.version for d in m.distributions()};"
        f"print(json.dumps({{'python': platform.python_version()}} | {{n: found[n] for n in {names} if n in found}}))"
    )
    done = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True)
    versions: dict[str, str] = json.loads(done.stdout)
    return versions


def program_versions(commands: Iterable[str]) -> dict[str, str]:
    """Return what each command prints as a version, by the program's name; missing ones are left out."""
    versions = {}
    for command in commands:
        words = command.split()
        if shutil.which(words[0]):
            done = subprocess.run(
                words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
            )
            found = re.search(r"\d+\.\d+\S*", done.stdout)
            versions[words[0]] = found[0] if found else "?"
    return versions


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    found = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()
