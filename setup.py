"""The optional compiled build, `ALPHORN_COMPILE=1 pip install .` (docs/compiled.md). The rest is in pyproject.toml.

Without the variable this file does nothing, and the wheel is pure Python. Compiled are the modules that ordinary
requests pass through, from their sources as they are. They are one unit, so that calls between them are C's. Left out is
what spends its time in h11, h2 or wsproto, whose annotations are not always true, and what tests replace: the clock.
"""

import os
import sys
import tomllib
from pathlib import Path

from setuptools import Extension, setup

_COMPILED = {
    "core": (
        "admission codec exchange fields http limits opening repetition scope websocket websocket_messages worker"
    ),
    "protocols": (
        "hpack_codec hpack_huffman http1 http1_heads http1_output http1_plain http1_request http2 http2_events"
        " http2_fast_machine http2_fast_streams http2_frames http2_limits http2_opening http2_request http2_schedule"
        " http2_sender http2_stalls http2_stream lingering observed websocket_mask websocket_plain"
    ),
}
_SOURCES = Path("build", "sources").absolute()


def _requirements() -> list[str]:
    """Return what the compiler is, and whose types it reads: the dependencies, as they are at run time."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    return ["mypy[mypyc]>=2.4,<3", *project["dependencies"]]


def _extensions() -> list[Extension]:
    # setuptools runs this file several times before; the first time, to ask for the compiler.
    if "bdist_wheel" not in sys.argv:
        return []
    from mypyc.build import mypycify  # noqa: PLC0415

    package = _SOURCES / "alphorn"  # the name that the root has as a package, wherever it is
    _SOURCES.mkdir(parents=True, exist_ok=True)
    package.unlink(missing_ok=True)
    package.symlink_to(Path.cwd(), target_is_directory=True)
    os.environ["MYPYPATH"] = str(_SOURCES)
    files = [
        str(package / room / f"{name}.py") for room, names in _COMPILED.items() for name in names.split()
    ]
    options = [
        "--config-file=",
        "--explicit-package-bases",
        "--follow-imports=silent",
        "--ignore-missing-imports",
    ]
    extensions: list[Extension] = mypycify(
        [*options, *files],
        opt_level="1",  # 3 takes twice as long to compile, and gave nothing that could be measured
        group_name="alphorn.compiled",
        target_dir=str(Path("build", "c")),
    )
    return extensions


# A module with the name of the script is not shipped; without saying so, the name would be that of pip's script.
if os.environ.get("ALPHORN_COMPILE") == "1":
    setup(script_name="setup.py", ext_modules=_extensions(), setup_requires=_requirements())
else:
    setup(script_name="setup.py")
