"""The process of one worker, as its supervisor in workers.py starts it.

Invariants:
- What to serve it is told through a pipe, passwords included: nothing of it is in the arguments or the
  environment, where others could read it. The listening sockets are open already.
- Only the supervisor ends it, by SIGTERM, which may come more than once. Ctrl-C reaches every process of
  a terminal, and is the supervisor's to act on.
- It does not outlive its supervisor: when that is gone, it ends as by SIGTERM, and lets go of the port
  within seconds even when the application blocks the loop.
"""

import asyncio
import faulthandler
import os
import random
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, Final

from .core.clock import NEVER, Clock, Timed
from .core.config import SETTINGS, Config
from .core.control import Channel, Message, answer, decode, encode
from .core.errors import AlphornError
from .core.log import error_log
from .core.sockets import adopt_listeners
from .log_config import set_up_logging
from .server import Server, run_server

_DEAF_SECONDS: Final = 5.0
"""What a loop may take to notice that the supervisor is gone."""

_LONGEST_BEAT_SECONDS: Final = 5.0

_HOLD_SECONDS: Final = 5.0
"""When another worker has taken over, how long connections are kept that are silent: a client may have sent a
request before it can know that this one will be closed. Of those in a handshake, over a slow line or from a busy
machine, the request comes seconds later."""

_LEAST_SHARE: Final = 0.9
"""Of what a worker may have, chosen at random from here on, so that not all are worn at the same time."""

_OTHERS: Final = ("SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU")
"""Signals that are the supervisor's to act on, even if somebody sends them to every process."""


def main(control: int, pipe: int) -> None:
    """Serve until told to stop; ends the process.

    Args:
        control: The descriptor of the socket to talk over.
        pipe: The descriptor of a pipe whose first line says what to serve, and whose end is the supervisor's.
    """
    _prepare_signals()
    os.set_inheritable(pipe, False)
    life = os.fdopen(pipe, "rb")
    line = life.readline()
    if not line:  # the supervisor has gone already
        sys.exit(1)
    orders = decode(line)
    sys.argv = orders["argv"]
    config = _config_of(orders["config"])
    set_up_logging(config, worker=f"worker {orders['worker']}")
    with socket.socket(fileno=control) as sock:
        sock.set_inheritable(False)
        worker = _Worker(sock, life)
        sys.exit(worker.run(orders, config))


def _prepare_signals() -> None:
    """Be deaf to what is not ours. The supervisor has had them blocked, so that none came too early."""
    for name in _OTHERS:
        # Not SIG_IGN, which programs that the application starts would inherit.
        signal.signal(getattr(signal, name), lambda *_: None)
    faulthandler.enable()
    faulthandler.register(signal.SIGQUIT, all_threads=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _config_of(values: Message) -> Config:
    """Return the settings that JSON has, in which tuples are lists."""
    tuples = {setting.name for setting in SETTINGS if setting.kind is tuple}
    given: dict[str, Any] = {
        name: tuple(value) if name in tuples else value for name, value in values.items()
    }
    return Config(**given)


class _Worker:
    """One server, and its supervisor at the other end."""

    def __init__(self, sock: socket.socket, life: IO[bytes]) -> None:
        self._sock = sock
        self._life = life
        self._told = threading.Event()

    def run(self, orders: Message, config: Config) -> int:
        """Serve, and return the exit status; if it cannot, the supervisor is told why."""
        threading.Thread(target=self._follow, name="alphorn-supervisor", daemon=True).start()
        try:
            listeners = adopt_listeners(orders["listeners"])
            clock = Clock()
            secret = bytes.fromhex(orders["ticket_secret"])
            server = Server(
                orders["app"],
                config,
                clock=clock,
                listeners=listeners,
                supervised=True,
                ticket_secret=secret,
            )
            run_server(server, partial(self._serve, server, clock), interruptible=False)
        except AlphornError as error:
            self._say_last(
                {"event": "failed", "status": error.exit_status, "reason": str(error), "trace": error.trace}
            )
            return error.exit_status
        finally:
            # The interpreter takes handlers back when it ends, and would then end by the signal.
            for name in ("SIGTERM", *_OTHERS):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        return 0

    async def _serve(self, server: Server, clock: Clock, on_drained: Callable[[], object]) -> None:
        # A copy, for the loop closes what it is given, and there may be last words after it.
        channel = await Channel.over(self._sock.dup())
        loop = asyncio.get_running_loop()
        told = loop.create_future()

        def stop(hold_seconds: float = 0.0) -> None:
            self._told.set()
            if not told.done():
                channel.send({"event": "draining"})
                told.set_result(hold_seconds)

        async def obey() -> None:
            while (message := await channel.receive()) is not None:
                if "id" in message:
                    channel.send(answer(message, server.commands))
                else:  # replaced
                    stop(_HOLD_SECONDS)

        def ready() -> None:
            channel.send({"event": "ready", "announcements": server.announcements})
            clock.watch(_Wear(channel, clock, server))  # nobody could take the place of one that has none yet

        def drained() -> None:
            on_drained()
            numbers = server.commands.get("metrics", dict)()
            counted = {name: numbers[name] for name in ("pid", "counters") if name in numbers}
            channel.send({"event": "drained", "counted": counted})

        def heard(_number: int, _frame: FrameType | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(stop)

        # Not loop.add_signal_handler, after which another SIGTERM would end the process when the loop is closed.
        signal.signal(signal.SIGTERM, heard)
        obeying = asyncio.create_task(obey())
        clock.watch(_Heart(channel, clock, server.config.hang_timeout))
        try:
            await server.serve_until(told, on_start=ready, on_drained=drained)
        finally:
            obeying.cancel()
            channel.close()

    def _say_last(self, message: Message) -> None:
        self._sock.setblocking(True)
        with suppress(OSError):
            self._sock.sendall(encode(message))

    def _follow(self) -> None:
        """End when the supervisor has ended, however it did: the system closes its end of the pipe."""
        self._life.read()
        error_log.error("the supervisor is gone: shutting down")
        os.kill(os.getpid(), signal.SIGTERM)
        if not self._told.wait(_DEAF_SECONDS):
            error_log.error("the application blocks the event loop: ending at once")
            os._exit(1)


class _Heart:
    """Tells the supervisor again and again that the loop turns.

    Attributes:
        deadline: When to say it next.
    """

    def __init__(self, channel: Channel, clock: Clock, hang_timeout: float) -> None:
        self._channel = channel
        self._clock = clock
        self._pause = min(hang_timeout / 4, _LONGEST_BEAT_SECONDS)
        self.deadline = clock.now() if hang_timeout else NEVER

    def expire(self) -> None:
        """Say it."""
        self._channel.send({"event": "beat"})
        self.deadline = self._clock.now() + self._pause


def _resident_bytes() -> int:
    """Return how much memory this process has: its resident set, or on macOS the most that ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return pages * resource.getpagesize()


class _Wear:
    """Tells the supervisor, once, that the worker has served for long enough (`--max-requests` and the like).

    Attributes:
        deadline: When to look next.
    """

    def __init__(self, channel: Channel, clock: Clock, server: Server) -> None:
        self._channel = channel
        self._clock = clock
        self._server = server
        config = server.config
        share = random.uniform(_LEAST_SHARE, 1)  # noqa: S311 - no secret
        self._most_requests = (config.max_requests or NEVER) * share
        self._most_bytes = (config.max_rss or NEVER) * share
        self._over_at = clock.now() + (config.max_lifetime or NEVER) * share
        self.deadline = clock.now()

    def expire(self) -> None:
        """Look: at every tick, for all of it is cheap to know."""
        if self._server.requests >= self._most_requests:
            self._say(f"has begun {self._server.requests} requests (--max-requests)")
        elif self._clock.now() >= self._over_at:
            self._say("has served for its time (--max-lifetime)")
        elif self._most_bytes != NEVER and (size := _resident_bytes()) >= self._most_bytes:
            self._say(f"has {size // 2**20} MiB of memory (--max-rss)")

    def _say(self, what: str) -> None:
        self._channel.send({"event": "worn", "what": what})
        self.deadline = NEVER


if TYPE_CHECKING:
    _heart: type[Timed] = _Heart
    _wear: type[Timed] = _Wear
