"""The two logs: `alphorn.error` for the operator, `alphorn.access` with one line per request.

Nothing that a peer wrote reaches a log unescaped: control characters would let a client
forge lines or drive a terminal.
"""

import contextlib
import logging
import os
import re
import sys
import textwrap
from typing import Any, Final, TextIO

from .asgi import Address
from .outcome import Outcome

error_log = logging.getLogger("alphorn.error")
access_log = logging.getLogger("alphorn.access")

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]|[\"\\]")
_UNUSUAL: Final = re.compile(r"[^\n\x20-\x7e]")
_LONGEST_TEXT: Final = 2000  # of a peer's own words, in characters
_LONGEST_TRACE: Final = 32_000  # in characters


def escape(text: str) -> str:
    r"""Make peer-made text safe in a log line: quotes, backslashes and all but printable ASCII as \x.., and cut if long."""
    if len(text) > _LONGEST_TEXT:
        text = text[:_LONGEST_TEXT] + "..."
    return _UNPRINTABLE.sub(_escape_one, text)


def printable(value: object) -> str:
    """Escape a text of a scope, which its application may have spoilt: "-" if it is none any more."""
    return escape(value) if isinstance(value, str) else "-"


def log_outcome(outcome: Outcome) -> None:
    """Log one request that has ended, or was refused."""
    scope, status, _, length, seconds, _ = outcome
    client = line = "-"
    with contextlib.suppress(Exception):  # by now the scope is the application's
        client = format_address(scope["client"])
        version = scope["http_version"]
        # A websocket scope has no method: it was a GET (RFC 6455, 4.1) or a CONNECT (RFC 8441, 4).
        method = scope.get("method", "GET" if version == "1.1" else "CONNECT")
        line = request_line(method, scope["raw_path"], scope["query_string"], version)
    took = "-" if seconds is None else f"{seconds * 1000:.1f}ms"
    access_log.info('%s "%s" %s %d %s', client, line, status or "-", length, took)


def request_line(method: str, path: bytes, query: bytes, http_version: str) -> str:
    """Return the request line for a log, such as `GET /a?b HTTP/2`: nothing in it is dangerous."""
    target = path + b"?" + query if query else path
    return f"{escape(method)} {escape(target.decode('latin-1'))} HTTP/{http_version}"


def format_address(address: Address | None) -> str:
    """Return `host:port`, `[v6]:port`, the path of a unix socket, or "-"."""
    if address is None:
        return "-"
    host, port = address
    if not host.isprintable() or not host.isascii():  # middleware may have taken it from a field
        host = escape(host)
    if port is None:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _escape_unprintable(match: re.Match[str]) -> str:
    return match[0] if match[0].isprintable() else _escape_one(match)


def _escape_one(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def configure_logging(level: str, worker: str = "") -> None:
    """Log to the terminal, errors and news to stderr, requests to stdout, as long as nobody else does.

    Whoever gives handlers to our loggers, or to the root logger, gets the lines instead, whether before
    or after this. A level that was set before stands.

    Args:
        level: The least severe level, as `--log-level` has it.
        worker: What the lines of the error log begin with: the name of this process, if it is one of several.
    """
    for logger, stream in ((error_log, sys.stderr), (access_log, sys.stdout)):
        ours = [handler for handler in logger.handlers if isinstance(handler, _TerminalHandler)]
        for handler in ours:
            logger.removeHandler(handler)
        if ours or logger.level == logging.NOTSET:
            logger.setLevel(level.upper())
        if not logger.handlers:
            logger.addHandler(_TerminalHandler(logger, stream, worker if logger is error_log else ""))


def enable_logging() -> None:
    """Log on after the application was loaded.

    `logging.config` disables every logger that a configuration does not name, unless it is told not to.
    Few know, and a server without an error log helps nobody.
    """
    error_log.disabled = access_log.disabled = False


class _TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes to the terminal what no handler of somebody else gets."""

    def __init__(self, logger: logging.Logger, stream: TextIO, worker: str) -> None:
        super().__init__(stream)
        self._logger = logger
        self.setFormatter(_TerminalFormatter(_has_colours(stream), worker))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless it goes further up to somebody."""
        above = self._logger.parent if self._logger.propagate else None
        if above is None or not above.hasHandlers():
            super().emit(record)


def _has_colours(stream: TextIO) -> bool:
    """Colours are for terminals whose owner has not declined them (https://no-color.org)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


class _TerminalFormatter(logging.Formatter):
    """Time, level, perhaps the worker, and message; the level in colour where there are colours."""

    _COLOURS = {"DEBUG": 36, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 35}  # noqa: RUF012 - a constant

    def __init__(self, coloured: bool, worker: str) -> None:
        prefix = f"{worker}: " if worker else ""
        super().__init__(f"%(asctime)s %(level)s {prefix}%(message)s", "%Y-%m-%d %H:%M:%S")
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower().ljust(7)
        if self._coloured:
            level = f"\x1b[{self._COLOURS.get(record.levelname, 0)}m{level}\x1b[0m"
        record.level = level
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return a traceback; should a client's words be in it, they drive no terminal and begin no line."""
        trace = super().formatException(ei)
        if len(trace) > _LONGEST_TRACE:
            half = _LONGEST_TRACE // 2
            trace = f"{trace[:half]}\n... ({len(trace) - 2 * half} characters are left out)\n{trace[-half:]}"
        return textwrap.indent(_UNUSUAL.sub(_escape_unprintable, trace), "  ")
