"""Who a process is before it serves: its folder, its mask, its user; the file with its number; owners of sockets.

Invariants:
- Whatever cannot be had is a `ConfigError`: nothing is served as somebody else than was asked for.
- After `become`, there is no way back to who it was, and none of the other groups of that user is left.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from .config import Config
from .errors import ConfigError


class Owner(NamedTuple):
    """A user and a group, as numbers; None leaves it as it is.

    Attributes:
        name: Of the user, for its other groups; empty if it has none.
    """

    user: int | None
    group: int | None
    name: str = ""


def settle(config: Config) -> None:
    """Take on the folder and the mask of the settings. Relative paths are looked up from then on.

    Raises:
        ConfigError: There is no such folder.
    """
    if config.chdir is not None:
        try:
            os.chdir(config.chdir)
        except OSError as error:
            raise ConfigError(f"--chdir {config.chdir}: {error.strerror}; make it, or name another") from None
    if config.umask is not None:
        os.umask(int(config.umask, 8))


def find_owner(user: str | None, group: str | None, label: str) -> Owner:
    """Look a user and a group up, by name or by number; without a group, it is the user's own.

    Args:
        user: Name or number, or None.
        group: Name or number, or None.
        label: What the operator wrote, for the error.

    Raises:
        ConfigError: There is none of this name.
    """
    try:
        import grp  # noqa: PLC0415 - not on Windows
        import pwd  # noqa: PLC0415
    except ImportError:
        raise ConfigError(f"{label}: this system has no such users; leave it out") from None
    number = own_group = None
    name = ""
    if user:
        try:
            entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except (KeyError, OverflowError):
            if not user.isdecimal() or not group:
                mend = "make it, or name another" if not user.isdecimal() else "name a group as well"
                raise ConfigError(f"{label}: there is no user {user}; {mend}") from None
            number = int(user)  # as containers have it: a number that has no name
        else:
            number, own_group, name = entry.pw_uid, entry.pw_gid, entry.pw_name
    if not group:
        return Owner(number, own_group, name)
    try:
        return Owner(number, int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid, name)
    except KeyError:
        raise ConfigError(f"{label}: there is no group {group}; make it, or name another") from None


def become(config: Config) -> None:
    """Be the user and group of the settings from now on, for good.

    Raises:
        ConfigError: There is none of this name, or this process may not.
    """
    if config.user is None and config.group is None:
        return
    label = " ".join(f"--{name} {value}" for name in ("user", "group") if (value := getattr(config, name)))
    wanted = find_owner(config.user, config.group, label)
    user = os.geteuid() if wanted.user is None else wanted.user
    group = os.getegid() if wanted.group is None else wanted.group
    if (user, group) == (os.geteuid(), os.getegid()) and user != 0:
        return  # it was started so already
    try:
        if wanted.name:
            os.initgroups(wanted.name, group)
        else:
            os.setgroups([group])
        os.setgid(group)
        os.setuid(user)
    except PermissionError:
        raise ConfigError(f"{label}: only root may do that; start it as root, or as this user") from None
    except OverflowError:
        raise ConfigError(f"{label}: that is no number of a user or group; name another") from None
    if config.supervised and not os.access(sys.executable, os.X_OK):  # which starts the workers
        raise ConfigError(f"{label}: this user may not run {sys.executable}; install Python where it may")


class PidFile:
    """A file with the number of this process, until the end of a block of code; nothing without a path."""

    def __init__(self, path: str | None) -> None:
        self._path = None if path is None else Path(path).absolute()

    def __enter__(self) -> Self:
        return self

    def write(self) -> None:
        """Write it, in place of one that a killed process has left.

        Raises:
            ConfigError: It cannot be written.
        """
        if self._path is None:
            return
        draft = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            # Anew: root must not write where a link of somebody else leads to.
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
            try:
                with os.fdopen(descriptor, "w") as file:
                    file.write(f"{os.getpid()}\n")
                draft.replace(self._path)
            except BaseException:
                draft.unlink()
                raise
        except OSError as error:
            raise ConfigError(
                f"--pid-file {self._path}: {error.strerror}; choose another, or make its folder"
            ) from None

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Remove it, if it is still ours and this user may."""
        if self._path is not None:
            with suppress(OSError, ValueError):
                if int(self._path.read_bytes()) == os.getpid():
                    self._path.unlink()
