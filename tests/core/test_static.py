"""Static files, where no wire is needed to see it."""

import asyncio
import io
import threading
from pathlib import Path

import pytest

from alphorn.core.media_types import UNKNOWN, media_type
from alphorn.core.static import Answer, _in_thread
from support.waiting import PATIENCE_SECONDS, within


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"index.html", b"text/html; charset=utf-8"),
        (b"INDEX.HTML", b"text/html; charset=utf-8"),
        (b"module.mjs", b"text/javascript; charset=utf-8"),
        (b"data.json", b"application/json"),
        (b"picture.svg", b"image/svg+xml"),
        (b"font.woff2", b"font/woff2"),
        (b"archive.tar.gz", b"application/gzip"),
        (b"program.exe", UNKNOWN),
        (b"Makefile", UNKNOWN),
        (b"html", UNKNOWN),
        (b"\xff.\xff", UNKNOWN),
        (b"", UNKNOWN),
    ],
)
def test_the_end_of_a_name_says_what_a_file_is(name: bytes, expected: bytes) -> None:
    assert media_type(name) == expected


async def test_a_file_that_nobody_waits_for_any_more_is_closed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    opening, go_on = threading.Event(), threading.Event()
    closed = asyncio.Event()

    class File(io.FileIO):
        def close(self) -> None:
            super().close()
            closed.set()

    def work() -> Answer:
        opening.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return Answer(200, [], [], File(tmp_path / "file"))

    waiting = asyncio.ensure_future(_in_thread(work))
    await asyncio.to_thread(opening.wait, PATIENCE_SECONDS)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go_on.set()
    async with within("the file to be closed"):
        await closed.wait()
