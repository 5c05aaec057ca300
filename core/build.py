"""How this copy of Alphorn was built: from its sources alone, or compiled (docs/compiled.md)."""

from importlib.util import find_spec
from typing import Final

COMPILED: Final = find_spec("..compiled__mypyc", __package__) is not None
"""Whether the modules that ordinary requests pass through are machine code."""
