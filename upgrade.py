"""SIGUSR2: a supervisor starts the next one, of whatever version is installed now, and hands its sockets on.

The next one is started with the same command line, reads its settings anew, and begins with the listening
sockets of this one. When its workers are ready it says so, and this one drains; if it ends before, nothing
has happened.

Invariants:
- At every moment somebody accepts connections: the sockets are never closed in between.
- A password that somebody has typed is handed on through a socket, never in arguments or the environment.
"""

import asyncio
import dataclasses
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from .core import handover
from .core.config import Config
from .core.control import Channel, decode, encode
from .core.errors import ConfigError

_VARIABLE: Final = "ALPHORN_HANDOVER"
"""The environment variable with the descriptor of the socket to talk over; only the next supervisor gets it."""


class Predecessor:
    """The supervisor before, from the next one's point of view."""

    def __init__(self, sock: socket.socket, keyfile_password: str | None) -> None:
        self._sock = sock
        self._keyfile_password = keyfile_password

    @classmethod
    def find(cls) -> Self | None:
        """Take over what a supervisor before has to hand on; None if there is none."""
        descriptor = os.environ.pop(_VARIABLE, None)
        if descriptor is None:
            return None
        sock = socket.socket(fileno=int(descriptor))
        sock.set_inheritable(False)
        with sock.makefile("rb") as lines:
            line = lines.readline()
        if not line:
            raise ConfigError("the process to take over from has gone; start the service anew")
        told = decode(line)
        handover.receive(told["sockets"])
        return cls(sock, told["keyfile_password"])

    def complete(self, config: Config) -> Config:
        """Return the settings, with the password that was typed for the one before."""
        if self._keyfile_password is None or config.keyfile_password_file is not None:
            return config
        return dataclasses.replace(config, keyfile_password=self._keyfile_password)

    def relieve(self) -> None:
        """Tell it that everything is ready, so that it drains."""
        with suppress(OSError), self._sock:
            self._sock.sendall(encode({"event": "ready"}))


class Successor:
    """The next supervisor, from the point of view of the one before."""

    def __init__(self, process: subprocess.Popen[bytes], channel: Channel) -> None:
        self._process = process
        self._channel = channel

    @classmethod
    async def start(cls, config: Config, folder: Path) -> Self:
        """Start it, in the folder in which this one was started, whatever that is now.

        Raises:
            OSError: The system refuses.
        """
        sockets = handover.descriptors()
        # The signs of life that systemd wants are the next one's to give.
        environment = {name: value for name, value in os.environ.items() if name != "WATCHDOG_PID"}
        ours, theirs = socket.socketpair()
        with theirs:
            # Not one of asyncio's, which would end with this process.
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - quick; the command that has started this one
                [sys.executable, *sys.orig_argv[1:]],
                cwd=folder,
                env={**environment, _VARIABLE: str(theirs.fileno())},
                pass_fds=[theirs.fileno(), *(number for numbers in sockets.values() for number in numbers)],
            )
        channel = await Channel.over(ours)
        channel.send({"sockets": sockets, "keyfile_password": config.keyfile_password})
        return cls(process, channel)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    async def wait_ready(self) -> bool:
        """Wait until its workers serve; tell whether they do, or it has ended."""
        try:
            ready = await self._channel.receive() is not None
        except asyncio.CancelledError:  # this service ends, and so does what was to take its place
            self._process.terminate()
            raise
        finally:
            self._channel.close()
        if ready:
            handover.give_away()
            self._process.returncode = 0  # it goes on without us, which is no oversight
        else:
            await asyncio.to_thread(self._process.wait)
        return ready


def starting_folder() -> Path:
    """Return the working directory as the shell calls it: perhaps a link, that will lead somewhere else tomorrow."""
    real = Path.cwd()
    named = os.environ.get("PWD")
    try:
        return Path(named) if named and Path(named).samefile(real) else real
    except OSError:
        return real
