"""Stacks: where threads and tasks are right now, as text.

Invariant: what is asked about goes on meanwhile; nothing here stops it or waits for it.
"""

import asyncio
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, takewhile
from types import FrameType
from typing import Any, Final

_MOST_TASKS: Final = 200
_MOST_FRAMES: Final = 40  # the innermost; more is recursion


def thread_frame(ident: int) -> FrameType | None:
    """Return the innermost frame of a thread, or None if it has ended."""
    return sys._current_frames().get(ident)  # noqa: SLF001 - documented, and the only way


def thread_stack(frame: FrameType, inside: str = "") -> str:
    """Return a thread's stack in the form of Python's tracebacks.

    Args:
        frame: Its innermost frame.
        inside: The file of a module: what is outside of its last call is left out.
    """
    frames = list(islice(traceback.walk_stack(frame), _MOST_FRAMES))
    called = list(takewhile(lambda each: each[0].f_code.co_filename != inside, frames))
    return _text(reversed(called or frames))


def thread_stacks() -> list[dict[str, Any]]:
    """Return the `name` and `stack` of every thread but the one that asks."""
    others = (thread for thread in threading.enumerate() if thread is not threading.current_thread())
    found = ((thread.name, thread_frame(thread.ident or 0)) for thread in others)
    return [{"name": name, "stack": thread_stack(frame)} for name, frame in found if frame is not None]


def task_stacks(names: Mapping[asyncio.Task[Any], str]) -> list[dict[str, Any]]:
    """Return the `name` and `stack` of every task of the running loop but the one that asks, up to a bound.

    Args:
        names: What to call some of them; the others have their own names.
    """
    others = (task for task in asyncio.all_tasks() if task is not asyncio.current_task())
    return [
        {"name": names.get(task) or task.get_name(), "stack": _text(_awaiting(task.get_coro()))}
        for task in islice(others, _MOST_TASKS)
    ]


def _awaiting(awaited: Any) -> Iterator[tuple[FrameType, int]]:
    """Yield where a coroutine waits, and in it the one that it waits for, as far as Python tells."""
    while awaited is not None:
        for kind in ("cr", "gi", "ag"):
            frame = getattr(awaited, f"{kind}_frame", None)
            if frame is not None:
                yield frame, frame.f_lineno
                awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
                break
        else:
            return


def _text(frames: Iterable[tuple[FrameType, int]]) -> str:
    return "".join(traceback.StackSummary.extract(iter(frames)).format())
