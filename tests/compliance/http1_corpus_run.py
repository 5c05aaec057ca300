"""Puts the HTTP/1.1 corpus to a real server: each row whole, byte by byte, and cut at hostile places."""

import asyncio
import contextlib
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from alphorn import Config, Server
from alphorn.core.asgi import Receive, Scope, Send
from support.engine import ENGINE
from support.steered_app import accept_lifespan
from support.waiting import turns, within
from support.wire import Ending, Wire

from . import http1_corpus_content, http1_corpus_flow, http1_corpus_head, http1_corpus_target
from .http1_corpus import MAX_FIELDS, MAX_HEAD_BYTES, Case, Sight, target

CASES: Sequence[Case] = (
    *http1_corpus_head.CASES,
    *http1_corpus_target.CASES,
    *http1_corpus_content.CASES,
    *http1_corpus_flow.CASES,
)

SETTINGS: dict[str, Any] = {"max_head_bytes": MAX_HEAD_BYTES, "max_fields": MAX_FIELDS, "access_log": False}

BEFORE = Sight("GET", b"/before")
BEHIND = Sight("GET", b"/behind")
"""The neighbours of a row: one has been answered already, one would have to be smuggled in."""

_MOST_PIECES = 3000
_DELIMITERS = re.compile(rb"[\r\n:;, ]|[^\r\n:;, ]+")


class Recorder:
    """An application that answers 200 to every request that it has read to its end, and remembers it.

    Attributes:
        seen: What it has read, by the port of the client.
    """

    def __init__(self) -> None:
        self.seen: defaultdict[int, list[Sight]] = defaultdict(list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await accept_lifespan(receive, send)
            return
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            body += message["body"]
            more = message["more_body"]
        query = scope["query_string"]
        raw = scope["raw_path"] + (b"?" + query if query else b"")
        sight = Sight(scope["method"], raw, bytes(body), scope["path"], scope["headers"])
        self.seen[scope["client"][1]].append(sight)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"seen"})


class Answer(NamedTuple):
    """A final response."""

    status: int
    fields: dict[bytes, bytes]


Split = Callable[[bytes], Sequence[bytes]]


def whole(data: bytes) -> Sequence[bytes]:
    """All at once."""
    return [data]


def byte_by_byte(data: bytes) -> Sequence[bytes]:
    """Each byte for itself; a few at once where there are thousands."""
    step = -(-len(data) // _MOST_PIECES) or 1
    return [data[start : start + step] for start in range(0, len(data), step)]


def at_delimiters(data: bytes) -> Sequence[bytes]:
    """Cut on both sides of whatever means something: between CR and LF, around colons, within lists."""
    return _DELIMITERS.findall(data)


SPLITS: Sequence[Split] = (whole, byte_by_byte, at_delimiters)


async def complaints(case: Case, url: str, recorder: Recorder, split: Split) -> list[str]:
    """Hold the conversation of a row and say what was wrong with it; nothing if all was right.

    Args:
        case: The row.
        url: Of a server with `SETTINGS` that runs `recorder` in this loop.
        recorder: The application.
        split: How the bytes are cut into writes.
    """
    expected = [BEFORE, *case.seen, *([] if case.closes else [BEHIND])]
    statuses = [200, *case.answers, *([] if case.closes else [200])]
    methods = [sight.method for sight in expected]
    wire = await Wire.open(url)
    port = wire._socket.getsockname()[1]
    try:
        await wire.write(target(BEFORE.target))
        received = await _read(wire, lambda received: len(_parse(received, ["GET"])[0]) == 1)
        data = case.raw if case.eof else case.raw + target(BEHIND.target)
        received += await _converse(wire, case, split(data), len(methods) - 1, methods[1:])
    except AssertionError as error:
        return [f"{error}; by then the application had seen {recorder.seen.pop(port, [])}"]
    finally:
        wire.close()
    answers, rest = _parse(received, methods)
    wrong = []
    if [answer.status for answer in answers] != statuses:
        wrong.append(f"answered {[answer.status for answer in answers]} instead of {statuses}")
    if rest:
        wrong.append(f"said {rest!r} behind its last answer")
    if case.closes and wire.ending is not Ending.FIN:
        wrong.append(f"the connection was {wire.ending and wire.ending.value} instead of closed")
    announced = b"close" in answers[-1].fields.get(b"connection", b"").split(b", ") if answers else False
    if case.closes and not case.eof and not announced:
        wrong.append(f"closed without saying so: {answers[-1].fields}")
    seen = recorder.seen.pop(port, [])
    if not _alike(seen, expected):
        wrong.append(f"the application saw {seen} instead of {expected}")
    return wrong


async def run() -> tuple[int, int]:
    """Put the whole corpus to a server and print what fails.

    Returns:
        How many rows passed in every split, and how many there are.
    """
    recorder = Recorder()
    passed = 0
    async with Server(recorder, Config(port=0, **dict[str, Any](SETTINGS, engine=ENGINE))) as server:
        for case in CASES:
            wrong = [
                f"{case.id}, {split.__name__}: {each} ({case.section}: {case.why})"
                for split in SPLITS
                for each in await complaints(case, server.urls[0], recorder, split)
            ]
            print(*wrong, sep="\n", end="\n" if wrong else "")
            passed += not wrong
    return passed, len(CASES)


async def _converse(
    wire: Wire, case: Case, pieces: Sequence[bytes], count: int, methods: Sequence[str]
) -> bytes:
    with contextlib.suppress(ConnectionError):  # refused and gone before all was said
        for piece in pieces:
            await wire.write(piece)
            await turns(2)  # so that the server, in the same loop, reads each piece for itself
        if case.eof:
            await wire.write_eof()
    return await _read(wire, lambda received: not case.closes and len(_parse(received, methods)[0]) == count)


async def _read(wire: Wire, is_enough: Callable[[bytes], bool]) -> bytes:
    received = b""
    async with within("the answers"):
        while not is_enough(received):
            data = await wire.read()
            if not data:
                break
            received += data
    return received


def _parse(data: bytes, methods: Sequence[str]) -> tuple[list[Answer], bytes]:
    """Read final responses; methods beyond those given are taken for GET."""
    answers: list[Answer] = []
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        status_line, *lines = head.split(b"\r\n")
        status = int(status_line.split(b" ")[1])
        if status < 200:
            data = rest
            continue
        fields: dict[bytes, bytes] = {}
        for name, _, value in (each.lower().partition(b": ") for each in lines):
            fields[name] = fields[name] + b", " + value if name in fields else value
        bodiless = len(answers) < len(methods) and methods[len(answers)] == "HEAD"
        length = 0 if bodiless else int(fields.get(b"content-length", b"0"))
        if len(rest) < length:
            break
        answers.append(Answer(status, fields))
        data = rest[length:]
    return answers, data


def _alike(seen: Sequence[Sight], expected: Sequence[Sight]) -> bool:
    return len(seen) == len(expected) and all(map(_matches, seen, expected))


def _matches(sight: Sight, expected: Sight) -> bool:
    return (
        sight[:3] == expected[:3]
        and expected.path in (None, sight.path)
        and all(
            next((value for name, value in sight.fields if name == wanted), None) == value_wanted
            for wanted, value_wanted in expected.fields
        )
    )


if __name__ == "__main__":
    print("{} of {} rows passed".format(*asyncio.run(run())))
