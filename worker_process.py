"""One worker as its supervisor sees it: a process, and a channel to it.

Invariants:
- It is a fresh interpreter, in which nothing of the program that has started us is run again (as
  multiprocessing would); so that program needs no `if __name__ == "__main__"`.
- It gets the listening sockets, the channel, and a pipe that tells it when we are gone; nothing else of ours.
- A worker that is busy starting or shutting its application down is never taken for one that hangs.
"""

import asyncio
import dataclasses
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from .core.clock import NEVER, Clock, Timed
from .core.config import Config
from .core.control import Asking, Channel, Message, encode
from .core.errors import (
    AlphornError,
    ApplicationFailed,
    ConfigError,
    ShutdownFailed,
    StartupFailed,
    WorkersFailed,
)
from .core.fleet import State
from .core.log import error_log
from .core.sockets import Listeners

_BOOT: Final = f"""\
import sys; sys.path[:] = sys.argv[3:]; from {__package__}.supervised import main; main(*map(int, sys.argv[1:3]))\
"""

STEADY_SECONDS: Final = 10.0
"""A worker that has served for so long has not failed to start."""

_LAST_WORDS_SECONDS: Final = 1.0

_TICKET_SECRET: Final = secrets.token_hex(32)
"""What the workers of this process share to resume each other's TLS sessions; it ends with the process."""


class Interpreter:
    """A process that has loaded all that serves, but no application: it waits to be told which.

    Attributes:
        process: The process.
        control: Our end of its channel.
        life: Our end of its pipe, through which it is told; when that is closed, it ends.
    """

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket, life: int) -> None:
        self.process = process
        self.control = control
        self.life = life

    @classmethod
    async def start(cls, listeners: Listeners, folder: Path | None = None) -> Self:
        """Start one, in a folder or else in the working directory.

        Raises:
            OSError: The system refuses, or the folder or the interpreter is not there just now.
        """
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        try:
            with _signals_blocked():
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *subprocess._args_from_interpreter_flags(),  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does: -X, -W and the like are for the workers too
                    *("-c", _BOOT, str(theirs.fileno()), str(read), *sys.path),
                    cwd=folder,
                    pass_fds=[theirs.fileno(), read, *listeners.descriptors()],
                )
        except BaseException:
            ours.close()
            os.close(write)
            raise
        finally:
            theirs.close()
            os.close(read)
        return cls(process, ours, write)

    async def discard(self) -> None:
        """End it: there is nothing for it to do."""
        self.control.close()
        os.close(self.life)
        await self.process.wait()


class WorkerProcess:
    """One process, from its start to its end.

    Attributes:
        number: Which place it takes, from 1.
        state: How far it is.
        ready: Done when it serves; failed when it ended before.
        asking: To ask it something.
        failure: What it said, when it ended, was the reason.
        counted: What it had counted when it had drained, if anybody wants to know.
        ready_at: Since when it serves, on the clock.
        deadline: When its loop has to have turned again.
    """

    def __init__(  # noqa: PLR0913 - what `start` has made
        self,
        number: int,
        process: asyncio.subprocess.Process,
        channel: Channel,
        life: int,
        *,
        clock: Clock,
        hang_seconds: float,
    ) -> None:
        self.number = number
        self.state: State = "starting"
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.asking = Asking(channel, clock)
        self.failure: AlphornError | None = None
        self.counted: Message | None = None
        self.ready_at = NEVER
        self._hung = False
        self.deadline = NEVER
        self._hang_seconds = hang_seconds
        self._strikes = 0
        self._began_at = clock.now()
        self._process = process
        self._channel = channel
        self._life = life
        self._clock = clock

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.pid})"

    @classmethod
    async def start(
        cls, number: int, orders: Message, listeners: Listeners, clock: Clock, folder: Path | None = None
    ) -> Self:
        """Start one, in a folder or else in the working directory.

        Raises:
            WorkersFailed: The system refuses, or the folder or the interpreter is not there just now.
        """
        try:
            interpreter = await Interpreter.start(listeners, folder)
        except OSError as error:
            what = f": {error.filename}" if error.filename else ""
            raise WorkersFailed(f"worker {number} cannot be started: {error.strerror}{what}") from error
        return await cls.of(interpreter, number, orders, clock)

    @classmethod
    async def of(cls, interpreter: "Interpreter", number: int, orders: Message, clock: Clock) -> Self:
        """Make one of an interpreter, which is its own from now on."""
        with suppress(BrokenPipeError):  # it has ended already
            os.write(interpreter.life, encode({"worker": number, "argv": sys.argv, **orders}))
        channel = await Channel.over(interpreter.control)
        hang_seconds = orders["config"]["hang_timeout"]
        return cls(
            number, interpreter.process, channel, interpreter.life, clock=clock, hang_seconds=hang_seconds
        )

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return self._clock.now() - self._began_at

    @property
    def steady(self) -> bool:
        """Whether it has served for long enough to be no failure, and still does."""
        return self.state == "ready" and self.served_seconds >= STEADY_SECONDS

    @property
    def served_seconds(self) -> float:
        """For how long it has served; 0 if it never did."""
        return max(0.0, self._clock.now() - self.ready_at)

    async def attend(self, heard: Callable[["WorkerProcess", Message], None]) -> str:
        """Listen to it until it has ended; return how it did."""
        listening = asyncio.create_task(self._listen(heard))
        status = await self._process.wait()
        # What it said last may not have been read yet; a process that it has forked may keep the channel open.
        await asyncio.wait({listening}, timeout=_LAST_WORDS_SECONDS)
        listening.cancel()
        self._clock.forget(self)
        self._channel.close()
        os.close(self._life)
        self.asking.abandon()
        return "was ended because it hung" if self._hung else _how_it_ended(status)

    def begin(self) -> None:
        """Note that it serves; from now on its loop has to turn."""
        self.state = "ready"
        self.ready_at = self._clock.now()
        self.ready.set_result(None)
        self.turns()
        self._clock.watch(self)

    def turns(self) -> None:
        """Note that its loop turns."""
        self._strikes = 0
        self.deadline = self._clock.now() + (self._hang_seconds or NEVER)

    def may_block(self) -> None:
        """Note that from now on nobody is kept waiting, whatever its loop does."""
        self._hang_seconds = 0
        self.turns()

    def expire(self) -> None:
        """Act on a loop that does not turn: warn, the next time have the stacks logged, then end it."""
        self._strikes += 1
        if self._strikes == 1:
            # Perhaps it was this process that stood still, or the machine.
            error_log.warning("%s: the event loop has not turned for %g seconds", self, self._hang_seconds)
            self.deadline = self._clock.now() + self._hang_seconds
        elif self._strikes == 2:
            error_log.error("%s hangs; its stacks:", self)
            self.signal(signal.SIGQUIT)
            self.deadline = self._clock.now()  # at the next tick; meanwhile they are written
        else:
            self.deadline = NEVER
            self._hung = True
            self.signal(signal.SIGKILL)

    def drain(self) -> None:
        """Tell it to end in good order."""
        self.state = "draining"
        self.signal(signal.SIGTERM)

    def make_way(self) -> None:
        """Tell it to end in good order because another has taken its place."""
        self.state = "draining"
        self._channel.send({"event": "replaced"})

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        if self._process.returncode is None:
            # Not by its own `send_signal`, which in Python 3.11 first reaps a process that has just ended: asyncio then
            # cannot, and says 255 of it.
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _listen(self, heard: Callable[["WorkerProcess", Message], None]) -> None:
        while (message := await self._channel.receive()) is not None:
            if "id" in message:
                self.asking.answered(message)
            else:
                heard(self, message)


def orders(app: str, config: Config, listeners: Listeners) -> Message:
    """Return what a worker has to be told: what to serve, how and where."""
    return {
        "app": app,
        "config": dataclasses.asdict(config),
        "listeners": listeners.numbers,
        "ticket_secret": _TICKET_SECRET,
    }


WELL: Final = "has ended"


def _how_it_ended(status: int) -> str:
    """Say how a process has ended, as the rest of a sentence."""
    if status < 0:
        if status == -signal.SIGKILL:  # the kernel's way when it needs memory, which only its own log says
            return "was ended by SIGKILL (for lack of memory?)"
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"
    return f"has ended with status {status}" if status else WELL


def failure_of(message: Message) -> AlphornError:
    """Make the error again that has ended a worker, from its last words."""
    kinds = {kind.exit_status: kind for kind in (ConfigError, StartupFailed, ShutdownFailed)}
    if message["trace"]:
        return ApplicationFailed(message["reason"], message["trace"])
    return kinds.get(message["status"], WorkersFailed)(message["reason"])


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Start a process in which the signals that we act on wait until it can do so too."""
    numbers = {getattr(signal, name) for name in _BLOCKED}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


_BLOCKED: Final = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU")


if TYPE_CHECKING:
    _timed: type[Timed] = WorkerProcess
