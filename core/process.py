"""The process around a worker: its signals, its descriptors, and its end.

Invariants:
- The first SIGINT or SIGTERM is an event, the second ends the process: at once, even while an
  application keeps the loop from turning.
- What an application has left running, such as a thread, which nothing can cancel, does not keep the
  process for ever.
"""

import asyncio
import contextlib
import gc
import logging
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, ClassVar, Final, Self

from .log import error_log, flush_logs

if sys.platform == "linux":
    import fcntl
    import resource

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_REPORT_SECONDS: Final = 1.0
# Bytes that the C library may keep for contents to come: two reads of uvloop of each of 16 uploads.
_KEPT_MEMORY: Final = 8 * 1024 * 1024

ENDING_SECONDS: Final = 3.0
"""What threads may take when everything else has ended, or has used up its grace."""


def reserve_descriptors(count: int) -> None:
    """Have the kernel make room for so many descriptors now rather than in the middle of an `accept()`.

    Linux doubles its table of them whenever it is full, and in a process with several threads waits each
    time until all processors have noticed: 10 to 20 ms, in which nobody is served.

    Args:
        count: Of descriptors; no more than the limit of open files allows.
    """
    if sys.platform == "linux":
        most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # They may have run out already.
        with contextlib.suppress(OSError), Path(os.devnull).open("rb") as file:
            os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, min(count, most) - 1))


def settle_memory() -> None:
    """Have later garbage collections leave out what has been loaded by now, for it will stay.

    A full one would take 10 to 20 ms for the modules of server and application alone, in which nobody is served.
    And have memory of freed contents kept for the next ones rather than given back at once.
    """
    gc.collect()
    gc.freeze()
    # glibc learns from what is freed: it goes on keeping as much twice over (mallopt(3), M_TRIM_THRESHOLD).
    # To give back each read of an upload, of up to 256 KiB, and to get zeroed pages for the next took a fifth of its time.
    bytes(_KEPT_MEMORY // 2)


class Signals:
    """SIGINT and SIGTERM while a block of code runs: an event for it; another ends the process.

    Several blocks at once, as of two servers in one loop, all get it. Only the main thread can be told
    of signals, so in any other thread there are none.

    Attributes:
        signalled: Whether one has come.
        first: Done when the loop has heard of it; what it says is nothing to wait for, in seconds.
    """

    # A process has one handler per signal, and so one list of those who want to know.
    _listening: ClassVar[list["Signals"]] = []
    _previous: ClassVar[dict[signal.Signals, Any]] = {}

    def __init__(self, at_once: Callable[[], object] | None = None) -> None:
        """Listen to nothing yet; `at_once` is done before another signal ends the process."""
        self._loop = asyncio.get_running_loop()
        self.at_once = at_once
        self.signalled = False
        self.first: asyncio.Future[float] = self._loop.create_future()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            if not self._listening:
                # Not loop.add_signal_handler, which waits for a turn of the loop.
                for number in _SIGNALS:
                    self._previous[number] = signal.signal(number, self._received)
            self._listening.append(self)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self in self._listening:
            self._listening.remove(self)
            if not self._listening:
                for number, previous in self._previous.items():
                    signal.signal(number, previous or signal.SIG_DFL)
                self._previous.clear()

    @classmethod
    def _received(cls, number: int, _: FrameType | None) -> None:
        """Act on a signal, between any two steps of whatever the main thread is doing."""
        if all(listener.signalled for listener in cls._listening):
            for listener in cls._listening:
                if listener.at_once is not None:
                    listener.at_once()
            flush_logs()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        for listener in cls._listening:
            listener.tell(signal.Signals(number).name)

    def tell(self, name: str) -> None:
        """Let the block know of a signal; called by the handler."""
        self.signalled = True
        self._loop.call_soon_threadsafe(self._told, name)

    def _told(self, name: str) -> None:
        if not self.first.done():
            error_log.info("%s: shutting down; once more ends at once", name)
            self.first.set_result(0.0)


@contextlib.contextmanager
def on_signals(acts: Mapping[str, Callable[[], object]]) -> Iterator[None]:
    """Call a function in the running loop for every signal of its name while a block of code runs.

    On systems that have no such signal, and outside the main thread, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def handler(act: Callable[[], object]) -> Callable[[int, FrameType | None], None]:
        def heard(_number: int, _frame: FrameType | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(act)

        return heard

    numbers = {getattr(signal, name): act for name, act in acts.items() if hasattr(signal, name)}
    previous = {number: signal.signal(number, handler(act)) for number, act in numbers.items()}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before or signal.SIG_DFL)


class Terminal:
    """The terminal on which a process was started, if there was one. Closed, it says SIGHUP, as does whoever wants a reload."""

    def __init__(self) -> None:
        self._was_there = os.isatty(0)

    @property
    def gone(self) -> bool:
        """Whether it was there and is closed."""
        return self._was_there and not os.isatty(0)


def usable_processors() -> int:
    """Count the processors that this process may use: those it may run on, within the quota of its container."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
        return max(1, min(count, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control groups (version 2); "max": no quota
        return count


class Ending:
    """The end of a process that may take no longer than some seconds; a signal ends it at once, if it may.

    As a context manager it bounds a block of code that waits for threads; `begin()` alone bounds the
    end of the interpreter, which waits for them too. Whoever is still there when the time is up is
    named in the log, and the exit status is 1.
    """

    def __init__(self, seconds: float, *, interruptible: bool = True, reports: bool = True) -> None:
        """Prepare.

        Args:
            seconds: What it may take.
            interruptible: Whether SIGINT ends it at once.
            reports: Whether the log says, every second, what is waited for.
        """
        self._seconds = seconds
        self._interruptible = interruptible
        self._reports = reports
        self._over = threading.Event()
        self._previous: Any = None

    def begin(self) -> None:
        """Let the time run."""
        if self._interruptible and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, signal.SIG_DFL)
        threading.Thread(target=self._watch, name="alphorn-ending", daemon=True).start()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cease()

    def cease(self) -> None:
        """Let the time run no more; harmless if it has not begun."""
        self._over.set()
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _watch(self) -> None:
        remaining = self._seconds
        while remaining > 0:
            if self._over.wait(min(remaining, _REPORT_SECONDS)):
                return
            remaining -= _REPORT_SECONDS
            if self._reports:
                error_log.info("waiting for %s", _what_remains())
        error_log.error("ending without waiting for %s any longer", _what_remains())
        flush_logs()
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):  # what the application has printed
            with contextlib.suppress(AttributeError, OSError, ValueError):
                stream.flush()
        os._exit(1)


def _what_remains() -> str:
    names = [thread.name for thread in threading.enumerate() if not thread.daemon]
    others = [name for name in names if name != threading.main_thread().name]
    return f"threads of the application ({', '.join(others)})" if others else "the application's tasks"
