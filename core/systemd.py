"""What systemd and a service say to each other: sockets it has opened, and how far the service is.

Both are a few variables and datagrams (sd_listen_fds(3), sd_notify(3)), and nothing where they are not
set. Only a process that `serve` runs speaks of itself; a server inside somebody's program does not.
"""

import os
import socket
from collections.abc import Mapping
from typing import Final

from .clock import NEVER, Clock
from .errors import ConfigError
from .log import error_log

_FIRST_DESCRIPTOR: Final = 3
_USEC: Final = 1_000_000
_PATIENCE_SECONDS: Final = 1.0  # should its queue be full; sd_notify(3) waits without an end


def passed_descriptors(name: str, environment: Mapping[str, str] = os.environ) -> list[int]:
    """List the sockets that were passed to this process by their `FileDescriptorName=`; all, if it is empty.

    Raises:
        ConfigError: There are none.
    """
    pid, count = environment.get("LISTEN_PID", ""), environment.get("LISTEN_FDS", "")
    if not count.isdecimal():
        raise ConfigError("no sockets were passed to it (LISTEN_FDS); start it by a socket unit of systemd")
    if pid != str(os.getpid()):
        raise ConfigError(
            f"the sockets were passed to process {pid or '?'} (LISTEN_PID), and this is {os.getpid()}; "
            "let ExecStart name it, without a shell in between"
        )
    descriptors = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count))
    if not name:
        return list(descriptors)
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    found = [descriptor for descriptor, known in zip(descriptors, names, strict=False) if known == name]
    if not found:
        known = ", ".join(dict.fromkeys(filter(None, names))) or "none"
        raise ConfigError(f"no socket of this name was passed to it, but: {known}; see FileDescriptorName=")
    return found


class ServiceManager:
    """Tells systemd how the service is, if it wants to know (`Type=notify`), and that it is alive.

    Attributes:
        deadline: When the next sign of life is due, on the clock.
    """

    def __init__(self, clock: Clock, environment: Mapping[str, str] = os.environ) -> None:
        self._clock = clock
        self._address = _address(environment.get("NOTIFY_SOCKET", ""))
        self._complained = False
        # Twice as often as it is wanted (sd_watchdog_enabled(3)).
        self._interval = _watchdog_seconds(environment) / 2 if self._address else NEVER
        self.deadline = NEVER

    def ready(self) -> None:
        """Say that it serves, from the beginning or again; from now on, that it is alive."""
        self._tell("READY=1", "STATUS=serving")
        if self._interval != NEVER:
            self.expire()
            self._clock.watch(self)

    def reloading(self) -> None:
        """Say that it reads its files again; `ready` follows. The time is what `Type=notify-reload` wants."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={int(self._clock.now() * _USEC)}")

    def stopping(self) -> None:
        """Say that it drains. It may take as long as its grace; it is alive meanwhile."""
        self._tell("STOPPING=1", "STATUS=draining")

    def main_process(self, pid: int) -> None:
        """Say that another process is the service from now on."""
        self._tell(f"MAINPID={pid}")

    def expire(self) -> None:
        """Give a sign of life, from the event loop: one that is blocked gives none."""
        self._tell("WATCHDOG=1")
        self.deadline = self._clock.now() + self._interval

    def close(self) -> None:
        """Give no more signs of life."""
        self._clock.forget(self)

    def _tell(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_PATIENCE_SECONDS)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._complained:
                self._complained = True
                error_log.warning("systemd cannot be told how the service is (NOTIFY_SOCKET): %s", error)


def _address(text: str) -> bytes | None:
    """Read NOTIFY_SOCKET: a path, or a name in the abstract namespace of Linux (unix(7))."""
    if text.startswith("@"):
        return b"\0" + os.fsencode(text[1:])
    if text.startswith("/"):
        return os.fsencode(text)
    if text:
        error_log.warning("NOTIFY_SOCKET is neither a path nor abstract, and so nobody is told: %s", text)
    return None


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """Read how often a sign of life is wanted; `NEVER` if not of this process."""
    microseconds, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID")
    if not microseconds.isdecimal() or int(microseconds) == 0 or pid not in (None, str(os.getpid())):
        return NEVER
    return int(microseconds) / _USEC
