"""A folder whose files may be served: from the names in a URL to an open file, and to nothing outside.

Invariants:
- A file is opened step by step, each relative to the folder before, and no step follows a symbolic
  link: whatever is renamed or linked meanwhile, what is open lies in the folder.
- Links that stay in the folder are followed, for that is how releases are switched: their end is
  computed first, and then walked to like any other path.
- Only regular files are served. What is a FIFO or a device when it is looked at is not opened; what
  becomes one in the next instant does not make us wait.
- Everything here may wait for a disk, so it is called in threads; nothing here keeps a state.
"""

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from .codings import SUFFIXES, choose_coding

INDEX: Final = b"index.html"

CAN_OPEN_STEP_BY_STEP: Final = {os.open, os.stat} <= os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
"""Whether the system has `openat` and `O_NOFOLLOW`; Windows has neither."""

# O_PATH (Linux) needs no permission to list the folder, only to pass through it.
_FOLDER: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", 0)
# O_NONBLOCK: to open a FIFO would wait for somebody who writes.
_FILE: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)

# What a path made by a client can lead to that is no fault of ours.
_NOT_THERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL)
# What a link on the way looks like: with O_DIRECTORY Linux says the one, without it the other.
_PERHAPS_A_LINK: Final = (errno.ENOTDIR, errno.ELOOP, errno.EMLINK)


class NotThere(Exception):  # noqa: N818 - it says what is the case
    """There is no such file, or none that may be served."""


class IsFolder(Exception):  # noqa: N818
    """What is there is a folder."""


class Found(NamedTuple):
    """An open file, in the coding that was chosen.

    Attributes:
        descriptor: The open file; the caller closes it.
        about: What the system says of it.
        coding: Its content coding.
        varies: Whether there are others.
    """

    descriptor: int
    about: os.stat_result
    coding: bytes
    varies: bool


def open_file(folder: str, names: Sequence[bytes], accepted: bytes | None) -> Found:
    """Open the file that some names below a folder lead to, or its precompressed sibling.

    Args:
        folder: Absolute path; that it has links in it is the operator's choice.
        names: Names of folders and, at last, the file, as the system has them: none of them empty, ".",
            ".." or with a slash or NUL in it.
        accepted: The value of `accept-encoding`, or None.

    Raises:
        NotThere: There is no such file.
        IsFolder: It is a folder.
        PermissionError: It may not be read by this process.
        OSError: The disk failed, or there are too many open files.
    """
    try:
        try:
            return _open(folder, names, accepted)
        except OSError as error:
            if error.errno not in _PERHAPS_A_LINK:
                raise
        return _open(*_without_links(folder, names), accepted)
    except OSError as error:
        if error.errno in _NOT_THERE:
            raise NotThere from error
        raise


def _without_links(folder: str, names: Sequence[bytes]) -> tuple[str, Sequence[bytes]]:
    """Compute where links lead to, in the same terms.

    Raises:
        NotThere: They lead out of the folder.
    """
    root = os.path.realpath(os.fsencode(folder))
    end = os.path.realpath(os.path.join(root, *names))  # noqa: PTH118 - pathlib knows no bytes
    if end == root:
        raise IsFolder
    below = root.rstrip(b"/") + b"/"
    if not end.startswith(below):
        raise NotThere
    return os.fsdecode(root), end.removeprefix(below).split(b"/")


def _open(folder: str, names: Sequence[bytes], accepted: bytes | None) -> Found:
    if not names:
        raise IsFolder
    with _walk(folder, names[:-1]) as parent:
        name = names[-1]
        about = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISLNK(about.st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if stat.S_ISDIR(about.st_mode):
            raise IsFolder
        if not stat.S_ISREG(about.st_mode):
            raise NotThere
        codings = _siblings(parent, name, about)
        coding = choose_coding(accepted, codings)
        descriptor = os.open(name + SUFFIXES.get(coding, b""), _FILE | _NO_LINK, dir_fd=parent)
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        os.close(descriptor)
        raise NotThere
    return Found(descriptor, about, coding, bool(codings))


@contextmanager
def _walk(folder: str, names: Sequence[bytes]) -> Iterator[int]:
    """Go down into a folder; the descriptor is closed at the end."""
    current = os.open(folder, _FOLDER)
    try:
        for name in names:
            above, current = current, os.open(name, _FOLDER | _NO_LINK, dir_fd=current)
            os.close(above)
        yield current
    finally:
        os.close(current)


def _siblings(parent: int, name: bytes, about: os.stat_result) -> list[bytes]:
    """List the codings in which a file is there as well, and up to date.

    A sibling that is older than its file was made of another one. Seconds are compared, for archives
    keep no more.
    """
    found = []
    for coding, suffix in SUFFIXES.items():
        try:
            sibling = os.stat(name + suffix, dir_fd=parent, follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISREG(sibling.st_mode) and int(sibling.st_mtime) >= int(about.st_mtime):
            found.append(coding)
    return found
