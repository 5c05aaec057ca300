"""The access log: a line per request, those of some milliseconds written together.

They go to `--access-log-file`, or to whoever has given `alphorn.access` or a logger above a handler; else,
where the server has configured logging itself, to the terminal, past `logging`, which would cost more
than the request.
"""

import asyncio
import logging
from typing import Final, TextIO

from .access_format import DEFAULT, compile_format, has_time, json_format, local_time
from .clock import Clock
from .config import Config
from .log import TIME_FORMAT, LogFile, access_log, error_log, level_text, terminal_of, unwritten
from .outcome import Outcome

# Lines that are made together share the cost of a write, and of bringing what makes them into the processor's
# cache; with many more than these, the requests themselves would have left it.
_MANY: Final = 32
# Nobody who looks on notices.
_BATCH_SECONDS: Final = 0.02


class AccessLog:
    """The access log of one server."""

    def __init__(self, config: Config, clock: Clock) -> None:
        """Begin to log in the running loop.

        Raises:
            ConfigError: The format has an unknown atom, or the file cannot be written.
        """
        text = config.access_log_format or DEFAULT
        is_json = config.log_format == "json"
        self._describe = (
            json_format(clock.unix_time_at) if is_json else compile_format(text, clock.unix_time_at)
        )
        self._begins_with_time = not is_json and not has_time(text)
        self._clock = clock
        self._time = local_time(TIME_FORMAT)
        self._loop = asyncio.get_running_loop()
        self._outcomes: list[Outcome] = []
        self._due = False  # whether they are written in time, whatever else happens
        self._failing = False
        self._file = LogFile(config.access_log_file, "--access-log-file") if config.access_log_file else None
        unwritten.add(self)

    @property
    def wanted(self) -> bool:
        """Whether anybody gets the lines."""
        return self._file is not None or access_log.isEnabledFor(logging.INFO)

    def observe(self, outcome: Outcome) -> None:
        """Log one request that has ended."""
        outcomes = self._outcomes
        if outcomes:
            outcomes.append(outcome)
            if len(outcomes) >= _MANY:
                self.flush()
        elif not self.wanted:  # the level has changed meanwhile
            return
        elif self._file is not None or terminal_of(access_log) is not None:
            outcomes.append(outcome)
            if not self._due:
                self._due = True
                self._loop.call_later(_BATCH_SECONDS, self._flush_in_time)
        else:
            access_log.info("%s", *self._describe([outcome]))

    def _flush_in_time(self) -> None:
        self._due = False
        self.flush()

    def flush(self) -> None:
        """Write what has yet to be written."""
        outcomes, self._outcomes = self._outcomes, []
        if not outcomes:
            return
        lines = self._describe(outcomes)
        terminal = terminal_of(access_log)
        if self._file is not None:
            self._write(self._file, lines, coloured=False)
        elif terminal is not None:
            self._write(terminal.stream, lines, coloured=terminal.coloured)
        else:  # somebody has given the logger a handler meanwhile
            for line in lines:
                access_log.info("%s", line)

    def close(self) -> None:
        """Write what has yet to be written, and let go of the file."""
        self.flush()
        unwritten.discard(self)
        if self._file is not None:
            self._file.close()

    def _write(self, target: LogFile | TextIO, lines: list[str], *, coloured: bool) -> None:
        prefix = (
            f"{self._time(self._clock.unix_time())} {level_text('INFO', coloured=coloured)} "
            if self._begins_with_time
            else ""
        )
        try:
            target.write(prefix + f"\n{prefix}".join(lines) + "\n")
            target.flush()
        except (OSError, ValueError) as error:  # such as a full disk, or a stream that somebody closed
            if not self._failing:
                error_log.error("the access log cannot be written, so lines are lost: %s", error)
            self._failing = True
        else:
            self._failing = False
