"""Files in responses: which parts of which files an application may name, and reading them.

Everything is checked before anything of the response is marked as sent. Reading happens in a
thread, piece by piece, because a disk may be slow and the loop must not wait for it. Knows no
response and no wire.
"""

import asyncio
import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from .asgi import Message
from .errors import UnexpectedMessage

PIECE_BYTES: Final = 256 * 1024
"""How much is read at a time: enough that the hop to a thread (about 50 us) is cheap beside it."""

# Opening must not wait: a FIFO would, for somebody who writes. O_BINARY is for Windows.
_OPEN_FLAGS: Final = (
    os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
)


class FilePart(NamedTuple):
    """A part of an open regular file.

    Attributes:
        descriptor: The open file.
        offset: Where the part begins, in bytes.
        length: How long it is, in bytes; the file is at least so long when the part is made.
    """

    descriptor: int
    offset: int
    length: int


def part_of_open_file(message: Message) -> FilePart:
    """Read `file`, `offset` and `count` of `http.response.zerocopysend`.

    Without an offset the part begins at the file's current position, without a count it goes to
    the end; the file stays open, and the application's.

    Raises:
        UnexpectedMessage: The file is not an open regular file, or a number is none.
    """
    file = message.get("file")
    try:
        descriptor: int = file.fileno()  # type: ignore[union-attr] # anything may come from an application
        size = _size_of_regular_file(descriptor)
        position: int = file.tell()  # type: ignore[union-attr]
    except (AttributeError, TypeError, ValueError, OSError) as error:
        raise UnexpectedMessage(f"zerocopysend wants an open regular file, unlike {file!r}") from error
    offset, count = _number(message, "offset"), _number(message, "count")
    start = position if offset is None else offset
    available = max(0, size - start)
    return FilePart(descriptor, start, available if count is None else min(count, available))


def open_whole_file(message: Message) -> FilePart:
    """Open the `path` of `http.response.pathsend`; the caller closes the descriptor.

    Raises:
        UnexpectedMessage: The path is not absolute, or not that of a regular file that can be read.
    """
    path = message.get("path")
    if not isinstance(path, str) or not Path(path).is_absolute():
        raise UnexpectedMessage(f"the path of pathsend is absolute, unlike {path!r}")
    try:
        descriptor = os.open(path, _OPEN_FLAGS)
    except (OSError, ValueError) as error:
        # Not as an OSError, which out of `send()` means that the client has gone (ASGI www 2.4).
        raise UnexpectedMessage(f"pathsend cannot open {path!r}: {error}") from error
    try:
        return FilePart(descriptor, 0, _size_of_regular_file(descriptor))
    except OSError as error:
        os.close(descriptor)
        raise UnexpectedMessage(f"pathsend wants a regular file, unlike {path!r}") from error


async def read_piece(part: FilePart, done: int) -> bytes:
    """Read the piece of a part that follows its first `done` bytes; b"" if the file ends before it.

    Raises:
        OSError: The disk failed.
    """
    size = min(PIECE_BYTES, part.length - done)
    return await asyncio.to_thread(os.pread, part.descriptor, size, part.offset + done)


def _size_of_regular_file(descriptor: int) -> int:
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode):
        raise OSError("not a regular file")
    return about.st_size


def _number(message: Message, key: str) -> int | None:
    value = message.get(key)
    if value is not None and (not isinstance(value, int) or value < 0):
        raise UnexpectedMessage(f"the {key} of zerocopysend is a number of bytes, not {value!r}")
    return value
