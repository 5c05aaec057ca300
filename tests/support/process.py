"""A server in a process of its own: for clients that block, for its memory, and for how it ends."""

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from .certificates import Pair
from .engine import ENGINE

PATIENCE_SECONDS = 40.0
"""How long a process may take to start, to say something or to end, on a busy machine."""


def block_until(condition: Callable[[], object], what: str) -> None:
    """Wait for something in other processes or in files that nobody is told of."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_SECONDS:g} s for {what}"
        time.sleep(0.01)


class ServerProcess:
    """`python -m alphorn APP`, on a port the system chooses.

    As a context manager it stops the server at the end, and fails unless that was a clean exit.

    Attributes:
        url: Where it listens.
    """

    def __init__(
        self,
        app: str,
        *options: str,
        folder: Path,
        certificate: Pair | None = None,
        cafile: str | None = None,
        quiet: bool = False,
        output: Path | None = None,
        banner: str = "listening on http",
    ) -> None:
        """Start and wait until it listens.

        Args:
            app: "module:attribute".
            options: Further flags.
            folder: Where the module is, which becomes the working directory.
            certificate: Serve TLS with it.
            cafile: Whom its clients have to trust; kept for them.
            quiet: Drop its standard output, which has the access log.
            output: Have it write its standard output to this file instead.
            banner: What it says, in a line of its log, when it has started.

        Raises:
            AssertionError: It did not start; the message has its log.
        """
        self.cafile = cafile
        if certificate is not None:
            options += ("--certfile", certificate.certfile, "--keyfile", certificate.keyfile)
        self._lines: list[str] = []
        self._ended = False
        self._news = threading.Condition()
        stdout = output.open("wb") if output else subprocess.DEVNULL if quiet else None
        self._process = subprocess.Popen(
            self.command(app, options),
            cwd=folder,
            env={name: value for name, value in os.environ.items() if not name.startswith("SERVE_")},
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        if not isinstance(stdout, int | None):
            stdout.close()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            said = self.wait_for(banner)
        except BaseException:
            self.kill()
            raise
        found = re.search(r"https?://\S+", said)
        self.url = found[0] if found else ""

    def command(self, app: str, options: Sequence[str]) -> list[str]:
        """Return what is run."""
        return [sys.executable, "-m", "alphorn", app, "--port", "0", "--engine", ENGINE, *options]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is not None:
            self.kill()
            print(self.log)  # pytest shows it with the failure
            return
        status = self.stop()
        assert status == 0, f"exit status {status}:\n{self.log}"

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self.url.rpartition(":")[2])

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What it has written to standard error so far."""
        with self._news:
            return "".join(self._lines)

    def wait_for(self, text: str, nth: int = 1) -> str:
        """Wait for a line of its log that contains `text`, or for the `nth` such line, and return it.

        Raises:
            AssertionError: It ended without one, or took too long.
        """

        def said() -> str | None:
            return next(itertools.islice((line for line in self._lines if text in line), nth - 1, None), None)

        with self._news:
            self._news.wait_for(lambda: said() or self._ended, PATIENCE_SECONDS)
            line = said()
        assert line is not None, f"never said {text!r}:\n{self.log}"
        return line

    def wait_until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for something that it does not say.

        Raises:
            AssertionError: It took too long; the message has its log.
        """
        try:
            block_until(condition, what)
        except AssertionError as late:
            raise AssertionError(f"{late}:\n{self.log}") from None

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended and return its exit status."""
        try:
            status = self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {PATIENCE_SECONDS:g} s:\n{self.log}") from None
        self._reader.join()
        return status

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to end, if it has not, and return its exit status."""
        if self._process.poll() is None:
            self.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()
        self._reader.join()

    # --- Memory, where the system tells (Linux)

    @property
    def resident_bytes(self) -> int:
        """How much of it is in memory now."""
        return self._status("VmRSS")

    @property
    def peak_resident_bytes(self) -> int:
        """The most of it that was in memory at any time."""
        return self._status("VmHWM")

    def _status(self, field: str) -> int:
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(rf"^{field}:\s+(\d+) kB$", text, re.MULTILINE)
        assert found, text
        return int(found[1]) * 1024

    def _read(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as stream:
            for line in stream:
                with self._news:
                    self._lines.append(line)
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()
