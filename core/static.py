"""`--static /assets=folder`: an application that serves files of folders, in front of the one of the operator.

Invariants:
- What is below a prefix is answered here and never by the application behind; of several prefixes the
  longest counts. Everything else passes by, for the price of one comparison.
- One step in a thread per request: the file is opened, looked at and, if it is small, read. The loop
  never waits for a disk.
- A URL that could be read in two ways is no file: encoded slashes, backslashes and NUL, empty names,
  "." and "..". So what one rule allows is what another opens.
- The status, the fields and the content are all of one open file, whatever happens to its path meanwhile.
"""

import asyncio
import io
import os
import re
import secrets
import struct
from collections.abc import Callable, Iterable, Sequence
from email.utils import formatdate
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from .asgi import Application, Field, Fields, Receive, Scope, Send
from .codings import IDENTITY
from .conditions import Validators, field_value, precondition_status, range_is_current
from .errors import ConfigError
from .media_types import media_type
from .ranges import ByteRange, parse_ranges, part_head, parts_end
from .static_folder import CAN_OPEN_STEP_BY_STEP, INDEX, Found, IsFolder, NotThere, open_file

SMALL_BYTES: Final = 64 * 1024
"""Up to so many bytes are read where the file is opened, and leave in one write with the head."""

# What a time of a file can hide: most systems keep them to some milliseconds, FAT to two seconds.
_SETTLED_SECONDS: Final = 2.0
_AMBIGUOUS: Final = re.compile(rb"%(?:2f|5c|00)|\\|//|/(?:\.|%2e){1,2}(?:/|$)", re.IGNORECASE)
_TEXT: Final = b"text/plain; charset=utf-8"
_NO_SNIFFING: Final = (b"x-content-type-options", b"nosniff")


class Mount(NamedTuple):
    """A folder and where it is.

    Attributes:
        prefix: Of the paths in URLs, decoded, without a slash at its end; empty for everything.
        folder: Absolute path.
    """

    prefix: str
    folder: str


class Answer(NamedTuple):
    """What is to be sent.

    Attributes:
        status: The status code.
        fields: The fields of the head.
        content: Bytes, and parts of the file.
        file: The open file, if parts of it are in the content; the sender closes it.
    """

    status: int
    fields: Fields
    content: Sequence[bytes | ByteRange] = ()
    file: io.FileIO | None = None


class _Request(NamedTuple):
    """What an answer depends on: names below the folder, and how they were asked for."""

    folder: str
    names: list[bytes]
    as_folder: bool
    is_head: bool
    path: bytes
    query: bytes
    fields: Fields


def parse_mounts(texts: Iterable[str]) -> list[Mount]:
    """Read what `--static` says.

    Raises:
        ConfigError: It is not PREFIX=FOLDER, a prefix is there twice, or there is no such folder.
    """
    mounts: dict[str, Mount] = {}
    for text in texts:
        prefix, equals, folder = text.partition("=")
        label = f"--static {text}"
        if not CAN_OPEN_STEP_BY_STEP:
            raise ConfigError(f"{label}: this system cannot open files safely (openat); use a proxy's files")
        if not (prefix.startswith("/") and equals and folder):
            raise ConfigError(f"{label}: it is no prefix and folder; write it like /assets=public")
        if re.search(r"//|[%?#\\]|/\.{1,2}(/|$)", prefix) or not prefix.isprintable():
            raise ConfigError(f"{label}: the prefix is no plain path; write it like /assets=public")
        place = Path(folder).expanduser().absolute()
        if not place.is_dir():
            raise ConfigError(f"{label}: there is no folder {place}; make it, or name another")
        prefix = prefix.rstrip("/")
        if prefix in mounts:
            raise ConfigError(f"{label}: {prefix or '/'} has a folder already; drop one of them")
        mounts[prefix] = Mount(prefix, str(place))
    return list(mounts.values())


class StaticFiles:
    """The application."""

    def __init__(
        self,
        mounts: Iterable[Mount],
        application: Application,
        unix_time: Callable[[], float],
        *,
        dotfiles: bool = False,
    ) -> None:
        """Serve some folders.

        Args:
            mounts: The folders.
            application: Who answers everything else.
            unix_time: Gives the seconds since the epoch, to be held against the times of files.
            dotfiles: Whether names that begin with a dot are served.
        """
        self._mounts = sorted(mounts, key=lambda mount: len(mount.prefix), reverse=True)
        self._prefixes = tuple(mount.prefix for mount in self._mounts)
        self._application = application
        self._unix_time = unix_time
        self._dotfiles = dotfiles

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a file; hand everything else on."""
        mount = self._mount_of(scope) if scope["type"] == "http" else None
        if mount is None:
            await self._application(scope, receive, send)
            return
        request = self._read(scope, mount)
        if scope["method"] not in ("GET", "HEAD"):
            answer = _plain(405, b"Method Not Allowed", (b"allow", b"GET, HEAD"))
        elif request is None:
            answer = _plain(404, b"Not Found")
        else:
            answer = await _in_thread(partial(self._answer, request))
        try:
            await _send(answer, send, whole=scope["method"] != "HEAD")
        finally:
            if answer.file is not None:
                answer.file.close()

    def _mount_of(self, scope: Scope) -> Mount | None:
        path: str = scope["path"]
        if scope["root_path"]:
            path = path.removeprefix(scope["root_path"])
        if not path.startswith(self._prefixes):
            return None
        for mount in self._mounts:
            if path.startswith(mount.prefix) and path[len(mount.prefix) :][:1] in ("", "/"):
                return mount
        return None

    def _read(self, scope: Scope, mount: Mount) -> _Request | None:
        """Take a request apart; None if its path is that of no file."""
        raw: bytes = scope["raw_path"]
        if _AMBIGUOUS.search(raw):
            return None
        below = unquote_to_bytes(raw)[len(mount.prefix.encode()) :]
        names = below.split(b"/")[1:]
        as_folder = names[-1:] == [b""]
        if as_folder:
            names[-1] = INDEX
        if not self._dotfiles and any(name.startswith(b".") for name in names):
            return None
        is_head = scope["method"] == "HEAD"
        return _Request(mount.folder, names, as_folder, is_head, raw, scope["query_string"], scope["headers"])

    def _answer(self, request: _Request) -> Answer:
        """Look the file up and make up the whole answer. Runs in a thread."""
        accepted = field_value(request.fields, b"accept-encoding")
        try:
            found = open_file(request.folder, request.names, accepted)
        except IsFolder:
            return _plain(404, b"Not Found") if request.as_folder else _to_folder(request)
        except NotThere:
            return _plain(404, b"Not Found")
        except PermissionError:
            return _plain(403, b"Forbidden")
        file = io.FileIO(found.descriptor)
        try:
            answer = _answer_with(file, found, request, self._unix_time())
        except BaseException:
            file.close()
            raise
        if answer.file is None:
            file.close()
        return answer


def _answer_with(file: io.FileIO, found: Found, request: _Request, now: float) -> Answer:
    size = found.about.st_size
    current = _validators(found, now)
    fields: Fields = [(b"etag", current.entity_tag)]
    if found.varies:
        fields.append((b"vary", b"accept-encoding"))
    status = precondition_status(request.fields, current)
    if status == 304:
        return Answer(304, fields)
    if status == 412:
        return _plain(412, b"Precondition Failed")
    kind = media_type(request.names[-1])
    fields += [(b"content-type", kind), (b"accept-ranges", b"bytes"), _NO_SNIFFING]
    if current.last_modified is not None:
        fields.append((b"last-modified", formatdate(current.last_modified, usegmt=True).encode()))
    if found.coding != IDENTITY:
        fields.append((b"content-encoding", found.coding))
    ranges = None if request.is_head else _ranges(request.fields, current, size)
    if ranges is None:
        return _with_content(200, fields, [ByteRange(0, size)], file, request)
    if not ranges:
        return _plain(416, b"Range Not Satisfiable", (b"content-range", b"bytes */%d" % size))
    if len(ranges) == 1:
        fields.append((b"content-range", ranges[0].content_range(size)))
        return _with_content(206, fields, ranges, file, request)
    boundary = secrets.token_hex(16).encode()
    content: list[bytes | ByteRange] = []
    for part in ranges:
        content += [part_head(boundary, kind, part, size), part]
    content.append(parts_end(boundary))
    fields = [field for field in fields if field[0] != b"content-type"]
    fields.append((b"content-type", b"multipart/byteranges; boundary=" + boundary))
    return _with_content(206, fields, content, file, request)


def _with_content(
    status: int,
    fields: Fields,
    content: Sequence[bytes | ByteRange],
    file: io.FileIO,
    request: _Request,
) -> Answer:
    """Complete an answer that has content: its length, and the content itself if it is small."""
    length = sum(part.length if isinstance(part, ByteRange) else len(part) for part in content)
    fields.append((b"content-length", b"%d" % length))
    if request.is_head:
        return Answer(status, fields)
    if length > SMALL_BYTES:
        return Answer(status, fields, content, file)
    read = (
        os.pread(file.fileno(), part.length, part.offset) if isinstance(part, ByteRange) else part
        for part in content
    )
    return Answer(status, fields, [b"".join(read)])


def _ranges(fields: Fields, current: Validators, size: int) -> list[ByteRange] | None:
    asked = field_value(fields, b"range")
    if asked is None or not range_is_current(fields, current):
        return None
    return parse_ranges(asked, size)


def _validators(found: Found, now: float) -> Validators:
    """Make what tells this file from any that comes after it.

    Its inode number is in it for files that were replaced by others of the same size and time, as
    reproducible builds make them. All of it is hashed, for it is nobody's business.

    A file that was changed this very moment can change again and keep its time. So what is said of it
    then is weak, is something else than what will be said later, and is not in whole seconds.
    """
    about = found.about
    state = struct.pack("<QQq", about.st_ino, about.st_size, about.st_mtime_ns)
    digest = blake2b(state + found.coding, digest_size=12).hexdigest().encode()
    if about.st_mtime + _SETTLED_SECONDS > now:
        return Validators(b'W/"%b-new"' % digest, None)
    return Validators(b'"%b"' % digest, max(0, int(about.st_mtime)))


def _to_folder(request: _Request) -> Answer:
    """Redirect to the same path with a slash, if there is a file for it.

    The reference is relative: so it is right behind a proxy that takes away a prefix.
    """
    try:
        os.close(open_file(request.folder, [*request.names, INDEX], None).descriptor)
    except (NotThere, IsFolder, PermissionError):
        return _plain(404, b"Not Found")
    last = request.path.rpartition(b"/")[2]
    location = b"./%b/%b" % (last, b"?" + request.query if request.query else b"")
    return _plain(308, b"The folder is there.", (b"location", location))


def _plain(status: int, text: bytes, *fields: Field) -> Answer:
    return Answer(status, [(b"content-type", _TEXT), (b"content-length", b"%d" % len(text)), *fields], [text])


async def _send(answer: Answer, send: Send, *, whole: bool) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.fields})
    content = answer.content if whole else ()
    for number, part in enumerate(content, start=1):
        more = number < len(content)
        if isinstance(part, bytes):
            await send({"type": "http.response.body", "body": part, "more_body": more})
        else:
            message = {"type": "http.response.zerocopysend", "file": answer.file, "more_body": more}
            await send({**message, "offset": part.offset, "count": part.length})
    if not content:
        await send({"type": "http.response.body"})


async def _in_thread(work: Callable[[], Answer]) -> Answer:
    """Run in a thread; should nobody wait for it any more, close what it has opened."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        working.add_done_callback(_drop)
        raise


def _drop(working: asyncio.Future[Answer]) -> None:
    if not working.cancelled() and working.exception() is None and (file := working.result().file):
        file.close()
