"""The two logs: `alphorn.error` for the operator, `alphorn.access` with one line per request.

Nothing that a peer wrote reaches a log unescaped: control characters would let a client
forge lines or drive a terminal.
"""

import atexit
import json
import logging
import os
import re
import sys
import textwrap
import time
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TextIO, TypeVar

from .asgi import Address
from .errors import ConfigError

error_log = logging.getLogger("alphorn.error")
access_log = logging.getLogger("alphorn.access")

_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]|[\"\\]")
_UNUSUAL: Final = re.compile(r"[^\n\x20-\x7e]")
_LONGEST_TRACE: Final = 32_000  # in characters

_COLOURS: Final = {"DEBUG": 36, "INFO": 32, "WARNING": 33, "ERROR": 31, "CRITICAL": 35}

LONGEST_TEXT: Final = 2000
"""How much of a peer's own words a log has, in characters."""

TIME_FORMAT: Final = "%Y-%m-%d %H:%M:%S"
"""Local, as `strftime` takes it."""

_Text = TypeVar("_Text", str, bytes)


def shorten(text: _Text) -> _Text:
    """Cut what a peer wrote, if it is long."""
    if len(text) <= LONGEST_TEXT:
        return text
    return text[:LONGEST_TEXT] + ("..." if isinstance(text, str) else b"...")


def escape(text: str) -> str:
    r"""Make peer-made text safe in a log line: quotes, backslashes and all but printable ASCII as \x.., and cut if long."""
    text = shorten(text)
    return text if is_safe(text) else _UNPRINTABLE.sub(_escape_one, text)


def is_safe(text: str) -> bool:
    """Whether there is nothing in a text to escape, as nearly always; a regular expression takes ten times as long."""
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def printable(value: object) -> str:
    """Escape a text of a scope, which its application may have spoilt: "-" if it is none any more."""
    return escape(value) if isinstance(value, str) else "-"


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


def configure_logging(level: str, style: Literal["text", "json"] = "text", worker: str = "") -> None:
    """Log to the terminal, errors and news to stderr, requests to stdout, as long as nobody else does.

    Whoever gives handlers to our loggers, or to the root logger, gets the lines instead, whether before
    or after this. A level that was set before stands.

    Args:
        level: The least severe level, as `--log-level` has it.
        style: How lines look, as `--log-format` has it.
        worker: What the lines of the error log begin with: the name of this process, if it is one of several.
    """
    for logger, stream in ((error_log, sys.stderr), (access_log, sys.stdout)):
        ours = [handler for handler in logger.handlers if isinstance(handler, TerminalHandler)]
        for handler in ours:
            logger.removeHandler(handler)
        if ours or logger.level == logging.NOTSET:
            logger.setLevel(level.upper())
        if not logger.handlers:
            logger.addHandler(TerminalHandler(logger, stream, style, worker if logger is error_log else ""))


def terminal_of(logger: logging.Logger) -> "TerminalHandler | None":
    """Return our own handler of a logger if nobody else gets its lines; else None."""
    handlers = logger.handlers
    if len(handlers) == 1 and isinstance(handlers[0], TerminalHandler) and handlers[0].alone:
        return handlers[0]
    return None


def enable_logging() -> None:
    """Log on after the application was loaded.

    `logging.config` disables every logger that a configuration does not name, unless it is told not to.
    Few know, and a server without an error log helps nobody.
    """
    error_log.disabled = access_log.disabled = False


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes to the terminal what no handler of somebody else gets.

    Attributes:
        coloured: Whether the levels are in colour.
    """

    def __init__(
        self, logger: logging.Logger, stream: TextIO, style: Literal["text", "json"], worker: str
    ) -> None:
        super().__init__(stream)
        self.coloured = style == "text" and _has_colours(stream)
        self._logger = logger
        self.setFormatter(
            _JsonFormatter(worker) if style == "json" else _TerminalFormatter(self.coloured, worker)
        )

    @property
    def alone(self) -> bool:
        """Whether no handler further up gets the lines."""
        above = self._logger.parent if self._logger.propagate else None
        return above is None or not above.hasHandlers()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless it goes further up to somebody."""
        if self.alone:
            super().emit(record)


def _has_colours(stream: TextIO) -> bool:
    """Colours are for terminals whose owner has not declined them (https://no-color.org)."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def level_text(name: str, *, coloured: bool) -> str:
    """Return a level as a line on the terminal has it."""
    level = name.lower().ljust(7)
    return f"\x1b[{_COLOURS.get(name, 0)}m{level}\x1b[0m" if coloured else level


class _TerminalFormatter(logging.Formatter):
    """Time, level, perhaps the worker, and message; the level in colour where there are colours."""

    def __init__(self, coloured: bool, worker: str) -> None:
        prefix = f"{worker}: " if worker else ""
        super().__init__(f"%(asctime)s %(level)s {prefix}%(message)s", TIME_FORMAT)
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        record.level = level_text(record.levelname, coloured=self._coloured)
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name
        """Return a traceback; should a client's words be in it, they drive no terminal and begin no line."""
        return textwrap.indent(_UNUSUAL.sub(_escape_unprintable, _trace(super().formatException(ei))), "  ")


class _JsonFormatter(logging.Formatter):
    """One JSON object per line, in ASCII."""

    def __init__(self, worker: str) -> None:
        super().__init__()
        self._worker = {"worker": worker} if worker else {}

    def format(self, record: logging.LogRecord) -> str:
        members = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            **self._worker,
            "message": record.getMessage(),
        }
        if record.exc_info:
            members["exception"] = _trace(self.formatException(record.exc_info))
        return json.dumps(members)


def _trace(trace: str) -> str:
    """Cut the middle out of a traceback that is too long."""
    if len(trace) <= _LONGEST_TRACE:
        return trace
    half = _LONGEST_TRACE // 2
    return f"{trace[:half]}\n... ({len(trace) - 2 * half} characters are left out)\n{trace[-half:]}"


# ---------------------------------------------------------------------- files


class LogFile:
    """A file that lines are appended to, and that may be moved away meanwhile."""

    def __init__(self, path: str, label: str) -> None:
        """Open the file, which is made if it is not there.

        Args:
            path: Where it is.
            label: The flag that names it, for the error.

        Raises:
            ConfigError: It cannot be written.
        """
        self._path = path
        try:
            self._descriptor = self._open()
        except OSError as error:
            raise ConfigError(f"{label}: cannot write {path}: {error.strerror}; check the path") from error
        _files.add(self)

    def write(self, text: str) -> None:
        """Append to the file, in one write, so that several processes may share it.

        Raises:
            OSError: Not all of it could be written.
        """
        data = text.encode()
        while data:
            data = data[os.write(self._descriptor, data) :]

    def flush(self) -> None:
        """Do nothing: nothing is held back here."""

    def reopen(self) -> None:
        """Go on in a new file, if the old one was moved away; the old one, if there cannot be a new one."""
        try:
            descriptor = self._open()
        except OSError as error:
            error_log.error("%s cannot be opened again, so the old file goes on: %s", self._path, error)
        else:
            os.close(self._descriptor)
            self._descriptor = descriptor

    def close(self) -> None:
        """Close the file."""
        _files.discard(self)
        os.close(self._descriptor)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)


class Unwritten(Protocol):
    """Somebody who writes lines some time after they were made."""

    def flush(self) -> None:
        """Write what has yet to be written."""


_files: Final[set[LogFile]] = set()

unwritten: Final[set[Unwritten]] = set()
"""Who is to write when the process ends before its time."""


def reopen_log_files() -> int:
    """Open every log file again, so that lines go on in new files after the old ones were moved away.

    Those of `logging`, such as a configuration gives it, are opened again as well.

    Returns:
        How many there are.
    """
    flush_logs()
    for file in tuple(_files):
        file.reopen()
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = {each for logger in loggers if isinstance(logger, logging.Logger) for each in logger.handlers}
    theirs = [handler for handler in handlers if isinstance(handler, logging.FileHandler)]
    for handler in theirs:
        _reopen(handler)
    error_log.info("opened the log files again")
    return len(_files) + len(theirs)


def _reopen(handler: logging.FileHandler) -> None:
    if handler.stream is None:  # it opens its file when it has something to write
        return
    try:
        file = Path(handler.baseFilename)
        stream = file.open("a", encoding=handler.encoding, errors=handler.errors)
    except OSError as error:
        error_log.error("%s cannot be opened again, so the old file goes on: %s", handler.baseFilename, error)
        return
    old = handler.setStream(stream)
    if old is not None:
        old.close()


@atexit.register
def flush_logs() -> None:
    """Write every line that has yet to be written: the process may end."""
    for each in tuple(unwritten):
        each.flush()
