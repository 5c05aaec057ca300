"""Alphorn, an ASGI server: one port, every protocol."""

from typing import TYPE_CHECKING, Any

from .core.config import Config

if TYPE_CHECKING:
    from .server import Server, run

__all__ = ["Config", "Server", "__version__", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the server when it is asked for: importing asyncio and the protocols takes its time."""
    if name in ("Server", "run"):
        from . import server  # noqa: PLC0415

        return getattr(server, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
