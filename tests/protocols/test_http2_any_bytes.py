"""Any split of the same bytes is the same conversation; no bytes make the server fail or forget anything.

For hours: `ALPHORN_FUZZ_EXAMPLES=1000000 pytest -o timeout=0 tests/protocols/test_http2_any_bytes.py`.
"""

import os
import struct
from itertools import pairwise
from typing import Any

from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from support.exchange import Fields
from support.frames import (
    GET,
    POST,
    PREFACE,
    Continuation,
    Data,
    Frame,
    Goaway,
    Headers,
    HeadersPart,
    Ping,
    PushPromise,
    Raw,
    RstStream,
    Settings,
    WindowUpdate,
    priority_update,
)
from support.http2_memory import memory_connection
from support.http2_requests import EXTENDED, GOOD, MALFORMED, replacing
from support.http2_whims import BEHAVIOURS, NARROW, SMALL, Judge, app, take_steps, undated
from support.waiting import turns

WINDOW = 65_535
EXAMPLES = int(os.environ.get("ALPHORN_FUZZ_EXAMPLES", "300"))

# ---------------------------------------------------------------------- any split


def conversation(frames: list[Frame]) -> dict[str, Any]:
    """What the frames say, without the order of streams among each other and without the time."""
    said: dict[str, Any] = {}
    for frame in frames:
        match frame:
            case Headers(stream_id=number, fields=fields, end_stream=end):
                kept = [field for field in fields if field[0] != b"date"]
                said.setdefault(f"stream {number}", []).append((kept, end))
            case Data(stream_id=number, data=data, end_stream=end):
                parts = said.setdefault(f"stream {number}", [])
                if parts and isinstance(parts[-1], list):
                    parts[-1] = [parts[-1][0] + data, end]
                else:
                    parts.append([data, end])
            case RstStream(stream_id=number, code=code):
                said.setdefault(f"stream {number}", []).append(code)
            case Ping(payload=payload):
                said.setdefault("pings", []).append(payload)
            case Goaway(last_stream_id=last, code=code):
                said["goaway"] = (last, code)
    return said


contents = st.binary(max_size=300)


@st.composite
def uploads(draw: st.DrawFn) -> list[Frame]:
    """Requests with content and trailers, their frames in any order among each other, and other frames between."""
    frames: list[Frame] = [Settings({4: 1_000_000}), WindowUpdate(0, 1_000_000)]
    lanes: list[list[Frame]] = []
    for number in range(draw(st.integers(1, 4))):
        stream_id = 2 * number + 1
        trailers = draw(st.booleans())
        lane: list[Frame] = [
            Data(stream_id, content, padding=draw(st.none() | st.integers(0, 20)))
            for content in draw(st.lists(contents, max_size=3))
        ]
        if trailers:
            lane.append(Headers(stream_id, [(b"x-digest", draw(contents).hex().encode())], end_stream=True))
        else:
            lane.append(Data(stream_id, draw(contents), end_stream=True))
        fields = [
            *POST[:3],
            (b":path", b"/0"),
            (b"te", b"trailers"),
            (b"cookie", b"a=1"),
            (b"cookie", b"b=2"),
        ]
        frames.append(Headers(stream_id, fields))
        lanes.append(lane)
    lanes.append([Ping(draw(st.binary(min_size=8, max_size=8))) for _ in range(draw(st.integers(0, 3)))])
    lanes.append(draw(st.lists(st.sampled_from(HARMLESS), max_size=4)))
    while any(lanes):
        frames.append(draw(st.sampled_from([lane for lane in lanes if lane])).pop(0))
    return frames


HARMLESS: list[Frame] = [
    priority_update(1, b"u=1, i"),
    priority_update(9, b"u=7"),
    Raw(0xFE, 0xFF, 0, b"unknown"),
    Settings({0xF0F0: 1}),
    WindowUpdate(1, 10),
]


async def converse(frames: list[Frame], cuts: list[int]) -> dict[str, Any]:
    """Send the same bytes, cut where `cuts` says, and return the conversation."""
    async with memory_connection(app) as connection:
        stream = PREFACE + b"".join(map(connection.peer.serialize, frames))
        edges = [0, *sorted({cut % len(stream) for cut in cuts}), len(stream)]
        for start, end in pairwise(edges):
            connection.transport.feed(stream[start:end])
            await turns()
        return conversation(await connection.reads())


@settings(deadline=None)
@given(uploads(), st.lists(st.integers(0, 5000), max_size=8))
async def test_any_split_of_the_same_bytes_is_the_same_conversation(
    frames: list[Frame], cuts: list[int]
) -> None:
    whole = await converse(frames, [])
    assert sum(key.startswith("stream") for key in whole) >= 1
    assert await converse(frames, cuts) == whole


async def test_a_conversation_byte_by_byte_is_the_same() -> None:
    frames: list[Frame] = [
        Settings(),
        Headers(1, [*POST, (b"content-length", b"7")]),
        Data(1, b"content", end_stream=True, padding=3),
        Headers(3, [*GET, (b"te", b"trailers")], end_stream=True),
        Ping(b"12345678"),
    ]
    assert await converse(frames, list(range(2000))) == await converse(frames, [])


# ---------------------------------------------------------------------- any bytes

stream_ids = st.integers(0, 12)
paths = st.integers(0, len(BEHAVIOURS) - 1).map(b"/%d".__mod__)


def sections() -> st.SearchStrategy[Fields]:
    """Requests, good and malformed, handshakes, trailers."""
    good = paths.map(lambda path: replacing(b":path", path))
    posts = good.map(lambda fields: [POST[0], *fields[1:]])
    handshake = paths.map(
        lambda path: [
            *[f for f in EXTENDED if f[0] != b":path"],
            (b":path", path),
            (b"sec-websocket-version", b"13"),
        ]
    )
    length = st.tuples(posts, st.integers(0, 300)).map(
        lambda pair: [*pair[0], (b"content-length", b"%d" % pair[1])]
    )
    pushy = good.map(lambda fields: [*fields, (b"te", b"trailers"), (b"priority", b"u=1")])
    trailers = st.just([(b"x-digest", b"0")])
    others = st.sampled_from([*MALFORMED.values(), *GOOD.values()])
    return good | posts | length | pushy | handshake | handshake | trailers | others


codes = st.sampled_from([0, 1, 7, 8, 0xF0F0])
increments = st.sampled_from([1, 1000, 70_000, 2**28])
paddings = st.none() | st.integers(0, 255)
WILD: st.SearchStrategy[Frame | bytes] = st.one_of(
    st.builds(Headers, stream_ids, sections(), st.booleans()),
    st.builds(Data, stream_ids, contents, st.booleans(), paddings),
    st.builds(RstStream, stream_ids, codes),
    st.builds(
        Settings,
        st.dictionaries(
            st.integers(0, 10), st.sampled_from([0, 1, 2, 70_000, 2**31 - 1, 2**32 - 1]), max_size=3
        ),
        st.booleans(),
    ),
    st.builds(WindowUpdate, stream_ids, st.sampled_from([0, 1, 2**31 - 1])),
    st.builds(priority_update, stream_ids, contents),
    st.builds(PushPromise, stream_ids, stream_ids, st.just(GET)),
    st.builds(HeadersPart, stream_ids, contents, st.booleans(), st.booleans()),
    st.builds(Continuation, stream_ids, contents, st.booleans()),
    st.builds(Raw, st.integers(0, 0x11), st.integers(0, 255), stream_ids, contents),
    contents,
)
"""Frames of every kind, and now and then what is none: most of them end the connection."""

SANE_SETTINGS = st.fixed_dictionaries(
    {},
    optional={1: st.integers(0, 5000), 2: st.integers(0, 1), 3: st.integers(0, 3), 4: st.integers(0, 70_000)},
)


class CarelessClient:
    """A client that knows HTTP/2 but is not always careful; and what else happens meanwhile.

    Attributes:
        steps: What it has done: frames, and the names of what happens besides.
    """

    LIKELY = (
        *["request"] * 5,
        *["data"] * 5,
        *["window"] * 3,
        *["trailers", "late", "turn", "turn", "turn", "read", "read", "read"],
        *["reset", "settings", "ping", "priority", "wild", "goaway", "time", "shutdown", "hang_up"],
    )

    def __init__(self, draw: st.DrawFn) -> None:
        self.steps: list[Any] = []
        self._draw = draw
        self._newest = -1
        self._open: list[int] = []

    def request(self) -> None:
        self._newest += self._draw(st.sampled_from([2, 2, 2, 4]))
        end = self._draw(st.booleans())
        self.steps.append(Headers(self._newest, self._draw(sections()), end_stream=end))
        if not end:
            self._open.append(self._newest)

    def data(self) -> None:
        if self._open:
            number, end = self._draw(st.sampled_from(self._open)), self._draw(st.booleans())
            self.steps.append(Data(number, self._draw(contents), end, self._draw(paddings)))
            if end:
                self._open.remove(number)

    def trailers(self) -> None:
        if self._open:
            number = self._open.pop()
            self.steps.append(Headers(number, [(b"x-digest", b"0")], end_stream=True))

    def late(self) -> None:
        self.steps.append(Data(self._any_stream(), self._draw(contents), self._draw(st.booleans())))

    def reset(self) -> None:
        self.steps.append(RstStream(self._any_stream(), self._draw(codes)))

    def window(self) -> None:
        number = self._draw(st.sampled_from([0, self._any_stream()]))
        self.steps.append(WindowUpdate(number, self._draw(increments)))

    def settings(self) -> None:
        self.steps.append(Settings(self._draw(SANE_SETTINGS)))

    def ping(self) -> None:
        self.steps.append(Ping(b"12345678", self._draw(st.booleans())))

    def priority(self) -> None:
        number = self._draw(st.sampled_from([self._any_stream(), self._newest + 4]))
        self.steps.append(priority_update(number, self._draw(st.sampled_from([b"", b"u=0", b"u=7, i"]))))

    def goaway(self) -> None:
        self.steps.append(Goaway(0, self._draw(codes)))

    def wild(self) -> None:
        self.steps.append(self._draw(WILD))

    def _any_stream(self) -> int:
        return 2 * self._draw(st.integers(0, max(self._newest, 1) // 2)) + 1


@st.composite
def sessions(draw: st.DrawFn) -> list[Any]:
    """Draw what a careless client does."""
    client = CarelessClient(draw)
    for name in draw(st.lists(st.sampled_from(CarelessClient.LIKELY), max_size=30)):
        act = getattr(client, name, None)
        if act is not None:
            act()
        else:
            client.steps.append(name)
    return client.steps


def window_of(frames: list[Frame | bytes]) -> int:
    """How much DATA the client has allowed on the connection, at the most."""
    updates = [frame for frame in frames if isinstance(frame, WindowUpdate) and frame.stream_id == 0]
    return WINDOW + sum(update.increment for update in updates)


@settings(deadline=None, max_examples=EXAMPLES)
@given(sessions(), st.sampled_from([SMALL, NARROW]))
async def test_no_sequence_of_frames_makes_the_server_fail_or_leaves_anything_behind(
    steps: list[Any], limits: dict[str, Any]
) -> None:
    async with memory_connection(app, **limits) as connection:
        connection.sends(PREFACE, Settings())
        frames = await take_steps(connection, steps)
        sent = [step for step in steps if not isinstance(step, str)]
        assert not [
            frame for frame in frames if isinstance(frame, Goaway) and frame.code == ErrorCodes.INTERNAL_ERROR
        ]
        if not any(isinstance(step, Raw | bytes) for step in sent):
            Judge().hear(frames, window_of(sent))


@settings(deadline=None, max_examples=EXAMPLES)
@given(sessions())
async def test_both_engines_give_the_same_answers_to_any_frames(steps: list[Any]) -> None:
    said = []
    for engine in ("reference", "fast"):
        async with memory_connection(app, engine=engine, **SMALL) as connection:
            connection.sends(PREFACE, Settings())
            said.append([undated(frame) for frame in await take_steps(connection, steps)])
    assert said[0] == said[1]


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.lists(st.binary(max_size=60), max_size=5))
async def test_no_bytes_at_all_make_the_server_fail(chunks: list[bytes]) -> None:
    async with memory_connection(app) as connection:
        connection.sends(PREFACE, struct.pack("!LBL", 0x4, 0, 0))
        for chunk in chunks:
            connection.transport.feed(chunk)
            await connection.reads()
