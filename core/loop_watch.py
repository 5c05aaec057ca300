"""LoopWatch: a thread that asks the event loop, four times per limit, whether it still turns.

An application that computes or blocks in a coroutine keeps everybody else waiting, and nobody sees who
it is. So who keeps the loop for longer than the limit has its stack logged while it does.

Invariants:
- A request costs nothing here, and is not waited for: the loop is asked by time.
- A place is named in the log once, however often it blocks.
"""

import asyncio
import sysconfig
import threading
from types import FrameType
from typing import Final

from . import dispatch
from .clock import Clock
from .log import error_log
from .metrics import Histogram
from .stacks import thread_frame, thread_stack

LAG_BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
"""Upper bounds in seconds: below the first, nobody notices; beyond the last, clients give up."""

_ASKS_PER_LIMIT: Final = 4
_MOST_PLACES: Final = 100  # that are named in the log; whoever has so many has read enough
_LIBRARIES: Final = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "purelib", "platlib"))


class LoopWatch:
    """Watches the loop in which it is started.

    Attributes:
        lag: How late the loop came to a callback that was due at once.
        blocked: How often it was later than the limit.
    """

    def __init__(self, clock: Clock, limit: float) -> None:
        """Prepare to watch.

        Args:
            clock: The time.
            limit: How long the loop may take, in seconds.
        """
        self.lag = Histogram(LAG_BOUNDS)
        self.blocked = 0
        self._clock = clock
        self._limit = limit
        self._places: set[tuple[str, int]] = set()
        self._paused = False
        self._answered = threading.Event()
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._thread_id = 0
        self._answered_at = 0.0

    def start(self) -> None:
        """Begin to watch the running loop, from a thread."""
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        threading.Thread(target=self._watch, name="alphorn-loop-watch", daemon=True).start()

    def stop(self) -> None:
        """Watch no more; the thread ends soon. Harmless if there is none."""
        self._stopping.set()
        self._answered.set()

    def _watch(self) -> None:
        pause = self._limit / _ASKS_PER_LIMIT
        due_at = self._clock.now() + pause
        while not self._stopping.wait(pause):
            self._answered.clear()
            if self._stopping.is_set():  # and the answer that was to say so is cleared
                return
            asked_at = self._clock.now()
            if asked_at - due_at > self._limit:  # this thread has stood still too
                asked_at = due_at
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:  # the loop is closed
                return
            seen = self._waits_too_long()
            named = seen and self._name_place(self._clock.now() - asked_at)
            self._answered.wait()
            if self._stopping.is_set():
                return
            lag = self._answered_at - asked_at
            self.lag.observe(lag)
            if lag > self._limit:
                self.blocked += 1
                if named:
                    error_log.warning("the event loop turns again, after %.1f seconds", lag)
                elif not seen:
                    self._name_pause(lag)
            due_at = self._clock.now() + pause

    def _answer(self) -> None:
        """Note, in the loop, that it turns."""
        self._answered_at = self._clock.now()
        self._answered.set()

    def _waits_too_long(self) -> bool:
        """Wait for the loop; in two parts, for a process that was stopped and goes on has used up the first."""
        last = self._limit / _ASKS_PER_LIMIT
        return not self._answered.wait(self._limit - last) and not self._answered.wait(last)

    def _name_place(self, seconds: float) -> bool:
        """Log what the loop is at, unless it was named before; tell whether it was logged."""
        frame = thread_frame(self._thread_id)
        if frame is None or (place := _place(frame)) in self._places or len(self._places) == _MOST_PLACES:
            return False
        self._places.add(place)
        error_log.warning(
            "the event loop has been blocked for %.1f seconds, and everybody waits for it (--blocked-loop-after; "
            "each place is named once); it is here:\n%s",
            seconds,
            thread_stack(frame, inside=dispatch.__file__).rstrip(),
        )
        return True

    def _name_pause(self, seconds: float) -> None:
        """Log, once, that this thread was late as well, and so has seen nothing."""
        if not self._paused:
            self._paused = True
            error_log.warning(
                "all threads stood still for %.1f seconds (--blocked-loop-after): native code kept the interpreter's "
                "lock, or the process was paused; this is said once",
                seconds,
            )


def _place(frame: FrameType) -> tuple[str, int]:
    """Return the innermost function that is not a library's, by file and line; if there is none, the innermost.

    Many an application calls the same library: who it was that called is worth naming.
    """
    outer: FrameType | None = frame
    while outer is not None:
        code = outer.f_code
        if not code.co_filename.startswith(_LIBRARIES) and not code.co_filename.startswith("<"):
            return code.co_filename, code.co_firstlineno
        outer = outer.f_back
    return frame.f_code.co_filename, frame.f_code.co_firstlineno
