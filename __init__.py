"""Alphorn, an ASGI server: one port, every protocol."""

from typing import TYPE_CHECKING, Any

from .core.config import Config

if TYPE_CHECKING:
    from .server import Server
    from .workers import run

__all__ = ["Config", "Server", "__version__", "run"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the server when it is asked for: importing asyncio and the protocols takes its time."""
    if name == "Server":
        from .server import Server  # noqa: PLC0415

        return Server
    if name == "run":
        from .workers import run  # noqa: PLC0415

        return run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
