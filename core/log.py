"""The two logs: `alphorn.error` for the operator, `alphorn.access` with one line per request.

Nothing that a peer wrote reaches a log unescaped: control characters would let a client
forge lines or drive a terminal.
"""

import logging
import os
import re
import sys
from typing import TextIO

from .asgi import Address, Scope

error_log = logging.getLogger("alphorn.error")
access_log = logging.getLogger("alphorn.access")

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]|[\"\\]")


def escape(text: str) -> str:
    r"""Make peer-made text safe in a log line: quotes, backslashes and all but printable ASCII as \x.."""
    return _UNPRINTABLE.sub(_escape_one, text)


def log_request(scope: Scope, status: int, length: int, seconds: float) -> None:
    """Log one request that has ended.

    Args:
        scope: Its scope.
        status: The status of the answer; 0 if the client left before there was one.
        length: Content sent, in bytes.
        seconds: From the request's head to the end of the answer.
    """
    query = scope["query_string"].decode("latin-1")
    access_log.info(
        '%s "%s %s%s HTTP/%s" %s %d %.1fms',
        format_address(scope["client"]),
        escape(scope.get("method", "GET" if scope["http_version"] == "1.1" else "CONNECT")),
        escape(scope["raw_path"].decode("latin-1")),
        "?" + escape(query) if query else "",
        scope["http_version"],
        status or "-",
        length,
        seconds * 1000,
    )


def format_address(address: Address | None) -> str:
    """Return `host:port`, `[v6]:port`, the path of a unix socket, or "-"."""
    if address is None:
        return "-"
    host, port = address
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _escape_one(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def configure_logging(level: str) -> None:
    """Log to the terminal: errors and news to stderr, requests to stdout.

    Loggers that have handlers already belong to somebody else, and are left alone.

    Args:
        level: The least severe level, as `--log-level` has it.
    """
    for logger, stream in ((error_log, sys.stderr), (access_log, sys.stdout)):
        if logger.hasHandlers():
            continue
        handler = logging.StreamHandler(stream)
        handler.setFormatter(_TerminalFormatter(_has_colours(stream)))
        logger.addHandler(handler)
        logger.setLevel(level.upper())
        logger.propagate = False


def _has_colours(stream: TextIO) -> bool:
    """Colours are for terminals whose owner has not declined them (https://no-color.org)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


class _TerminalFormatter(logging.Formatter):
    """Time, level and message; the level in colour where there are colours."""

    _COLOURS = {"DEBUG": 36, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 35}  # noqa: RUF012 - a constant

    def __init__(self, coloured: bool) -> None:
        super().__init__("%(asctime)s %(level)s %(message)s", "%Y-%m-%d %H:%M:%S")
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower().ljust(7)
        if self._coloured:
            level = f"\x1b[{self._COLOURS.get(record.levelname, 0)}m{level}\x1b[0m"
        record.level = level
        return super().format(record)
