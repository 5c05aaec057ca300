"""Both HTTP/2 machines say the same to any frames: events, verdicts, and what leaves.

The machine of `--engine reference` is h2's, and the oracle. What differs on purpose:

| h2 | ours | why |
|---|---|---|
| a request with `:status` 1xx is malformed | `http2_request` says so of any `:status` | 8.3.1: it is a matter of HTTP, not of frames |
| PUSH_PROMISE may be 4 bytes larger than a frame | it is split | 4.2; h2 fails an assertion |
| each DATA frame is an event | those in a row may be one | fewer calls, and less to put together |
| interim heads and trailers that we send are in order | whoever sends sees to it | `core.http` has the table of what may be sent when |

And as in test_hpack_codec.py: what is encoded differs, what it decodes to does not.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import hpack
import pytest
from h2.errors import ErrorCodes
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from alphorn.core.config import Config
from alphorn.core.errors import ConnectionFault
from alphorn.core.worker import Worker
from alphorn.protocols import http2_events as events
from alphorn.protocols.http2_fast_machine import Http2FastMachine
from alphorn.protocols.http2_guard import Http2Guard
from alphorn.protocols.http2_machine import Http2Machine
from support.clock import ManualClock
from support.exchange import Fields
from support.frames import (
    END_HEADERS,
    END_STREAM,
    GET,
    PADDED,
    POST,
    PREFACE,
    PRIORITY,
    Continuation,
    Data,
    Frame,
    FramePeer,
    Goaway,
    Headers,
    HeadersPart,
    Ping,
    Raw,
    RstStream,
    Settings,
    WindowUpdate,
    priority_update,
)
from support.http2_events import merged
from support.wire import Wire

EXAMPLES = int(os.environ.get("ALPHORN_FUZZ_EXAMPLES", "500"))
ANSWER: Fields = [(b":status", b"200"), (b"server", b"alphorn"), (b"x-a", b"b" * 40)]
LIMITS: dict[str, Any] = {
    "max_head_bytes": 1024,
    "stream_window": 1000,
    "connection_window": 65_535,
    "max_control_frames": 60,
}

# ---------------------------------------------------------------------- two machines side by side


def guard(config: Config) -> Http2Guard:
    """What a machine counts with; no test looks at what is kept of the limits."""
    worker = SimpleNamespace(config=config, clock=ManualClock(), limits=None)
    return Http2Guard(cast(Worker, worker), None)


Said: TypeAlias = tuple[list[Any], Counter[int]]
"""Frames that left, and by how much windows were opened, by stream."""


class Side:
    """One machine, and a client that reads what leaves it."""

    def __init__(self, machine: events.Machine) -> None:
        self.machine = machine
        self._decoder = hpack.Decoder(max_header_list_size=2**20)

    def hear(self, data: bytes) -> tuple[list[events.Event], tuple[int, str | None] | None]:
        """Receive; return the events, and the verdict if it is one."""
        heard = []
        try:
            for piece in itertools.chain([data], self._turns()):
                for event in self.machine.receive(piece):
                    heard.append(event)  # noqa: PERF402 - what came before a fault is kept
        except ConnectionFault as fault:
            return heard, (fault.code, fault.limit)
        return heard, None

    def _turns(self) -> Iterator[bytes]:
        """Go on as long as frames were left for another turn."""
        while self.machine.behind:
            yield b""

    def said(self) -> Said:
        """Return what has left."""
        frames: list[Any] = []
        opened: Counter[int] = Counter()
        block = b""
        for kind, flags, stream_id, payload in _frames(self.machine.data_to_send()):
            assert len(payload) <= self.machine.max_outbound_frame_size
            match kind:
                case 0x1 | 0x5 | 0x9:
                    if kind != 0x9:
                        frames.append([kind, stream_id, flags & END_STREAM])
                        block = payload
                        if kind == 0x5:
                            frames[-1].append(int.from_bytes(payload[:4]))
                            block = payload[4:]
                    else:
                        block += payload
                    if flags & END_HEADERS:
                        frames[-1].append([tuple(field) for field in self._decoder.decode(block, raw=True)])
                case 0x8:
                    opened[stream_id] += int.from_bytes(payload)
                case 0x4:
                    frames.append((kind, flags, {payload[at : at + 6] for at in range(0, len(payload), 6)}))
                case 0x7:
                    frames.append((kind, payload[:8]))
                case _:
                    frames.append((kind, flags, stream_id, payload))
        return frames, opened

    def state(self) -> Any:
        """Return what a connection asks for."""
        machine = self.machine
        return (
            machine.outbound_flow_control_window,
            machine.inbound_flow_control_window,
            machine.max_outbound_frame_size,
            min(machine.push_limit, 2**31 - 1),
            machine.unfinished_head,
            machine.get_next_available_stream_id(),
            [machine.is_idle(number) for number in range(1, 30)],
        )


def _frames(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Take bytes apart, up to what is no whole frame."""
    while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3]):
        end = 9 + int.from_bytes(data[:3])
        yield data[3], data[4], int.from_bytes(data[5:9]) & 0x7FFF_FFFF, data[9:end]
        data = data[end:]


def _is_interim(event: events.Event) -> bool:
    """Whether h2 takes it for an interim response, and so for malformed."""
    return isinstance(event, events.RequestReceived) and any(
        name == b":status" and value.startswith(b"1") for name, value in event.fields
    )


class Both:
    """Both machines, and what a connection would know of the streams.

    Attributes:
        client: Makes the frames.
        dead: Whether the verdict has been spoken.
        newest: The newest stream that the client has opened, as far as it knows.
        ours: Streams that we may send on.
        owed: How much content of which stream has not been taken.
        events: All that came of it.
    """

    def __init__(self, **limits: Any) -> None:
        config = Config(access_log=False, **limits)
        reference = Http2Machine(config, guard(config))
        fast = Http2FastMachine(config, guard(config))
        self.sides = [Side(reference), Side(fast)]
        self.client = FramePeer(cast(Wire, None))
        self.client.encoder.header_table_size = 4096
        self.dead = False
        self.newest = -1
        self.ours: dict[int, bool] = {}
        self.owed: Counter[int] = Counter()
        self.events: list[events.Event] = []
        self.fault: tuple[int, str | None] | None = None
        self.agree()

    def hear(self, *frames: Frame | bytes, cuts: list[int] | None = None) -> None:
        """Let both receive, in pieces."""
        data = b"".join(each if isinstance(each, bytes) else self.client.serialize(each) for each in frames)
        edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts or []}), len(data)]
        for start, end in pairwise(edges):
            if self.dead:
                return
            (expected, verdict), (got, our_verdict) = [side.hear(data[start:end]) for side in self.sides]
            if any(map(_is_interim, got)):  # the first row of the table
                reject()
            assert merged(got) == merged(expected)
            assert our_verdict == verdict
            for event in got:
                self._know(event)
            if verdict is not None:
                self.dead, self.fault = True, verdict
                for side in self.sides:
                    side.machine.say_goaway(verdict[0], "why")
            self.agree()

    def each(self, act: Callable[[events.Machine], Any]) -> None:
        """Have both do something."""
        for side in self.sides:
            act(side.machine)

    def send_head(self, number: int, *, end: bool, fields: Fields = ANSWER) -> None:
        """Have both send a field section."""
        self.each(lambda machine: machine.send_headers(number, fields, end_stream=end))
        self._sent(number, end=end)

    def send_data(self, number: int, size: int, *, end: bool) -> None:
        """Have both send content."""
        self.each(lambda machine: machine.send_data(number, bytes(size), end_stream=end))
        self._sent(number, end=end)

    def _sent(self, number: int, *, end: bool) -> None:
        self.ours[number] = True
        if end:
            del self.ours[number]
        self.agree()

    def agree(self) -> None:
        """Check that both have said the same, and stand at the same point."""
        if not self.dead:
            expected, got = [side.state() for side in self.sides]
            assert got == expected
        expected_said, said = [side.said() for side in self.sides]
        assert said == expected_said
        for number in () if self.dead else self.ours:
            windows = [side.machine.local_flow_control_window(number) for side in self.sides]
            assert windows[0] == windows[1]

    def _know(self, event: events.Event) -> None:
        self.events.append(event)
        match event:
            case events.RequestReceived():
                self.ours[event.stream_id] = False
                self.newest = max(self.newest, event.stream_id)
            case events.DataReceived():
                self.owed[event.stream_id] += event.size
            case events.StreamReset():
                self.ours.pop(event.stream_id, None)


# ---------------------------------------------------------------------- what the two sides do

sizes = st.sampled_from([0, 1, 9, 300, 1000, 1001, 5000, 16_384])
sizes_to_send = sizes | st.just(40_000)  # takes several frames
contents = st.binary(max_size=40) | sizes.map(bytes)
paddings = st.none() | st.integers(0, 255)
stream_ids = st.integers(0, 12)
codes = st.sampled_from([0, 1, 8, 0xF0F0])
sections: st.SearchStrategy[Fields] = st.sampled_from(
    [
        GET,
        POST,
        [*POST, (b"content-length", b"9")],
        [*POST, (b"content-length", b"")],  # which is in the static table
        [*POST, (b"content-length", b"9"), (b"content-length", b"09")],
        [*POST, (b"content-length", b"1"), (b"content-length", b"9")],
        [*POST, (b"content-length", b"+9")],
        [*POST, (b"content-length", b"9" * 500)],
        [*GET, (b"x-large", b"x" * 3000)],
        [(b"x-digest", b"0")],
        [],
    ]
)
setting_values = st.sampled_from([0, 1, 2, 100, 4096, 16_384, 70_000, 2**24, 2**31 - 1, 2**31, 2**32 - 1])
sane_settings = st.fixed_dictionaries(
    {},
    optional={
        1: st.integers(0, 5000),
        2: st.integers(0, 1),
        3: st.integers(0, 3),
        4: st.integers(0, 70_000),
        5: st.integers(16_384, 17_000),
        9: st.just(1),
        0xF0: setting_values,
    },
)
WILD: st.SearchStrategy[Frame | bytes] = st.one_of(
    st.builds(Headers, stream_ids, sections | st.just([*GET, (b"x-bomb", b"x" * 5000)]), st.booleans()),
    st.builds(Data, stream_ids, contents | st.just(bytes(16_385)), st.booleans(), paddings),
    st.builds(RstStream, stream_ids, codes),
    st.builds(Settings, st.dictionaries(st.integers(0, 10), setting_values, max_size=3), st.booleans()),
    st.builds(WindowUpdate, stream_ids, st.sampled_from([0, 1, 1000, 2**31 - 1, 2**31, 2**32 - 1])),
    st.builds(priority_update, stream_ids, st.binary(max_size=10)),
    st.builds(HeadersPart, stream_ids, contents, st.booleans(), st.booleans()),
    st.builds(Continuation, stream_ids, contents, st.booleans()),
    st.builds(
        Raw, st.integers(0, 0x11), st.integers(0, 255), st.sampled_from([0, 1, 2, 3, 2**31 + 1]), contents
    ),
    st.builds(Raw, st.just(1), st.just(PADDED | PRIORITY | END_HEADERS), stream_ids, contents),
    st.builds(Raw, st.sampled_from([2, 3, 6, 8]), st.just(0), stream_ids, st.binary(min_size=3, max_size=9)),
    st.binary(max_size=20),
)

Act: TypeAlias = Callable[[Both], None]
picks = st.integers(0, 50)
cuts = st.lists(st.integers(0, 4000), max_size=3)


def _known(both: Both, pick: int) -> int:
    """Return one of the client's streams, rather a new one; open one if there is none."""
    if both.newest < 1:
        both.hear(Headers(1, POST))
    return max(1, both.newest - 2 * min(pick % 10, both.newest // 2))


def _parts(section: Fields, end: bool, cuts: list[int], weight: int | None) -> Act:
    """A request in parts, perhaps with a priority; one whose weight is 0 depends on itself."""

    def act(both: Both) -> None:
        number = both.newest + 2
        block = both.client.encoder.encode(section)
        edges = [0, *sorted({cut % (len(block) + 1) for cut in cuts}), len(block)]
        first, *others = [block[start:end] for start, end in pairwise(edges)]
        flags = END_STREAM * end | END_HEADERS * (not others)
        if weight is not None:
            first = (number if weight == 0 else 0).to_bytes(4) + bytes([weight]) + first
            flags |= PRIORITY
        rest = [Continuation(number, part, end_headers=part is others[-1]) for part in others]
        both.hear(Raw(0x1, flags, number, first), *rest)

    return act


def client_acts() -> st.SearchStrategy[Act]:
    """Frames that a client may send, if not on this stream or now."""

    def frames(make: Callable[..., Frame], *arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Act]:
        def build(pick: int, cuts: list[int], *drawn: Any) -> Act:
            return lambda both: both.hear(make(_known(both, pick), *drawn), cuts=cuts)

        return st.builds(build, picks, cuts, *arguments)

    def request(skip: int, section: Fields, end: bool, cuts: list[int]) -> Act:
        return lambda both: both.hear(Headers(both.newest + 2 * skip, section, end), cuts=cuts)

    def row(pick: int, parts: list[tuple[int, bytes, bool, int | None]], cuts: list[int]) -> Act:
        def act(both: Both) -> None:
            row = [
                Data(_known(both, pick + on), content, end, padding) for on, content, end, padding in parts
            ]
            both.hear(*row, cuts=cuts)

        return act

    def message(pick: int, size: int, count: int, last: bytes) -> Act:
        def act(both: Both) -> None:
            number = _known(both, pick)
            both.hear(*[Data(number, bytes(size))] * count, Data(number, last))

        return act

    part = st.tuples(
        st.sampled_from([0, 0, 0, 0, 1]),
        contents,
        st.sampled_from([False, False, False, True]),
        st.sampled_from([None, None, None, 3]),
    )
    likely = [
        st.builds(row, picks, st.lists(part, min_size=2, max_size=6), cuts),
        st.builds(message, picks, st.integers(0, 300), st.integers(0, 3), contents),
        st.builds(request, st.integers(1, 2), sections, st.booleans(), cuts),
        st.builds(request, st.just(1), st.just(POST), st.just(False), cuts),
        frames(Data, contents, st.booleans(), paddings),
        frames(Data, contents, st.just(False)),
        frames(WindowUpdate, st.sampled_from([1, 1000, 70_000])),
        frames(lambda _, increment: WindowUpdate(0, increment), st.sampled_from([1, 70_000])),
        st.builds(_parts, sections, st.booleans(), cuts, st.sampled_from([None, None, 0, 16])),
    ]
    unlikely = [
        frames(Headers, sections, st.just(True)),
        frames(RstStream, codes),
        frames(WindowUpdate, st.just(2**31 - 1)),
        frames(lambda _, values: Settings(values), sane_settings),
        frames(lambda _: Settings(ack=True)),
        frames(lambda _, ack: Ping(b"12345678", ack), st.booleans()),
        frames(priority_update, st.just(b"u=1")),
        frames(lambda _, code: Goaway(0, code), codes),
        frames(lambda number, on: Raw(0x2, 0, number, on.to_bytes(5)), st.sampled_from([0, 1 << 8, 3 << 8])),
    ]
    return st.one_of(likely * 2 + unlikely)


def hostile_acts() -> st.SearchStrategy[Act]:
    """Frames and bytes that no client should send."""

    def wild(frame: Frame | bytes, cuts: list[int]) -> Act:
        return lambda both: both.hear(frame, cuts=cuts)

    def mutated(pick: int, section: Fields, end: bool, where: int, value: int) -> Act:
        def act(both: Both) -> None:
            data = bytearray(both.client.serialize(Headers(both.newest + 2, section, end)))
            data += both.client.serialize(Data(_known(both, pick), b"12345", end_stream=True))
            data[where % len(data)] = value
            both.hear(bytes(data))

        return act

    return st.builds(wild, WILD, cuts) | st.builds(
        mutated, picks, sections, st.booleans(), st.integers(0, 90), st.integers(0, 255)
    )


def _on_ours(do: Callable[..., None]) -> Callable[..., Act]:
    """Make an act of what is done on a stream that we may send on."""

    def make(pick: int, *drawn: Any) -> Act:
        def act(both: Both) -> None:
            if both.ours and not both.dead:
                do(both, sorted(both.ours)[pick % len(both.ours)], *drawn)
                both.agree()

        return act

    return make


def _send_head(both: Both, number: int, end: bool) -> None:
    both.send_head(number, end=end or both.ours[number])  # the second one is the trailers


def _send_data(both: Both, number: int, size: int, end: bool) -> None:
    machine = both.sides[0].machine
    size = max(0, min(size, machine.local_flow_control_window(number)))
    if both.ours[number]:
        both.send_data(number, size, end=end)


def _reset(both: Both, number: int, code: int) -> None:
    both.each(lambda machine: machine.reset_stream(number, code))
    del both.ours[number]


def _push(both: Both, number: int) -> None:
    machine = both.sides[0].machine
    if number % 2 and machine.push_limit > sum(each % 2 == 0 for each in both.ours):
        promised = machine.get_next_available_stream_id()
        both.each(lambda machine: machine.push_stream(number, promised, GET))
        both.ours[promised] = False


def _take(pick: int, share: float) -> Act:
    def act(both: Both) -> None:
        if both.owed and not both.dead:
            number = sorted(both.owed)[pick % len(both.owed)]
            size = int(both.owed[number] * share)
            both.owed[number] -= size
            both.each(lambda machine: machine.acknowledge_received_data(size, number))
            both.agree()

    return act


def our_acts() -> st.SearchStrategy[Act]:
    """What a connection does, where it may."""
    return st.one_of(
        st.builds(_on_ours(_send_head), picks, st.booleans()),
        st.builds(_on_ours(_send_data), picks, sizes_to_send, st.booleans()),
        st.builds(_on_ours(_reset), picks, codes),
        st.builds(_on_ours(_push), picks),
        st.builds(_take, picks, st.sampled_from([0.3, 1.0])),
    )


# ---------------------------------------------------------------------- any sequence

lively = client_acts() | our_acts()
acts = st.tuples(
    st.lists(lively, min_size=3, max_size=25),
    st.lists(hostile_acts(), max_size=2),
    st.lists(lively, max_size=5),
).map(lambda parts: [act for part in parts for act in part])


@settings(deadline=None, max_examples=EXAMPLES)
@given(acts)
def test_both_machines_say_the_same_to_any_frames_and_any_answers(acts: list[Act]) -> None:
    both = Both(**LIMITS)
    both.hear(PREFACE, Settings())
    for act in acts:
        act(both)


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.lists(WILD, max_size=4), st.lists(st.integers(0, 200), max_size=4))
def test_both_machines_say_the_same_to_any_beginning(frames: list[Frame | bytes], cuts: list[int]) -> None:
    both = Both(**LIMITS)
    both.hear(PREFACE, *frames, cuts=cuts)


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.lists(st.binary(max_size=60), max_size=5), st.booleans())
def test_both_machines_say_the_same_to_any_bytes(chunks: list[bytes], settled: bool) -> None:
    both = Both(**LIMITS)
    if settled:
        both.hear(PREFACE, Settings())
    for chunk in chunks:
        both.hear(chunk)


# ---------------------------------------------------------------------- what is too much to be found by chance


def started(**limits: Any) -> Both:
    both = Both(**LIMITS | limits)
    both.hear(PREFACE, Settings(), Settings(ack=True))
    return both


def test_both_machines_forget_closed_streams_alike() -> None:
    both = started(max_control_frames=10_000)
    for number in range(1, 2 * 1100, 2):
        both.hear(Headers(number, GET, end_stream=True))
        both.send_head(number, end=True)
    both.hear(Data(2199, b"late"), Data(1, b"very late"))
    assert both.fault is None
    both.hear(Headers(3, GET, end_stream=True))
    assert both.fault == (ErrorCodes.PROTOCOL_ERROR, None)


@pytest.mark.parametrize("frames", [63, 64])
def test_both_machines_take_so_many_parts_of_a_field_block(frames: int) -> None:
    both = started()
    both.hear(HeadersPart(1, b"\x82"), *[Continuation(1, b"\x82") for _ in range(frames)])
    assert both.fault == (None if frames == 63 else (ErrorCodes.ENHANCE_YOUR_CALM, "max_head_bytes"))


def test_both_machines_take_what_a_read_holds_in_turns() -> None:
    both = started(max_control_frames=1000)
    both.hear(*[Ping()] * 200, Headers(1, GET, end_stream=True))
    assert both.events[-1] == events.RequestReceived(
        1, GET, sum(len(name) + len(value) + 32 for name, value in GET), ended=True
    )


def test_both_machines_stop_a_client_that_overdraws_the_connection() -> None:
    both = started(stream_window=2**20)
    both.hear(Headers(1, POST), *[Data(1, bytes(16_384))] * 3, Data(1, bytes(16_383)))
    assert both.fault is None
    both.hear(Data(1, b"x"))
    assert both.fault == (ErrorCodes.FLOW_CONTROL_ERROR, None)


def test_both_machines_tell_of_all_content_up_to_what_overdraws() -> None:
    both = started(stream_window=2**20)
    both.hear(Headers(1, POST), *[Data(1, bytes(16_384))] * 3, Data(1, bytes(16_383)), Data(1, b"x"))
    assert both.events[-1] == events.DataReceived(1, bytes(65_535), 65_535, ended=False)
    assert both.fault == (ErrorCodes.FLOW_CONTROL_ERROR, None)


def test_content_in_a_row_is_one_event_of_ours() -> None:
    both = started(max_control_frames=10_000)
    row = [Data(1, b"%d" % number) for number in range(10)]
    both.hear(
        Headers(1, POST), Headers(3, POST), *row, Data(3, b"3"), *row[:2], Data(1), Data(1, b"4", padding=1)
    )
    both.hear(*[Data(1, b"-")] * 100)
    both.hear(*[Data(1, b"-")] * 100, Data(1, b"."), Data(1, b"5", end_stream=True), cuts=[])
    contents = [event.data for event in both.events if isinstance(event, events.DataReceived)]
    hundred = [b"-" * 64, b"-" * 36]
    assert contents == [b"0123456789", b"3", b"01", b"", b"4", *hundred, hundred[0], hundred[1] + b".", b"5"]


@pytest.mark.parametrize("sizes", [[7], [7, 7, 7], [7, 7, 3], [16_384, 16_384, 1], [7] * 63 + [3]], ids=str)
def test_a_read_of_content_is_one_event_where_its_frames_are_of_one_size(sizes: list[int]) -> None:
    both = started(stream_window=2**20)
    both.hear(Headers(1, POST), Data(1, b"before"))
    frames = [bytes([number]) * size for number, size in enumerate(sizes)]
    both.hear(*[Data(1, content) for content in frames])
    contents = [event.data for event in both.events if isinstance(event, events.DataReceived)]
    assert contents == [b"before", b"".join(frames)]


def test_both_machines_refuse_a_read_of_content_in_a_frame_that_is_too_large() -> None:
    both = started(stream_window=2**20)
    both.hear(Headers(1, POST), Data(1, b"before"))
    both.hear(Data(1, bytes(16_385)))
    assert both.fault == (ErrorCodes.FRAME_SIZE_ERROR, None)


@pytest.mark.parametrize(
    "read",
    [
        [Data(1, b"7" * 7)] * 64 + [Data(1, b"3" * 3)],
        [Data(1, b"7" * 7), Data(1, b"9" * 9)],
        [Data(1, b"3" * 3), Data(1, b"7" * 7)],
        [Data(1, b"\0\0\x07\0\0\0\0\0\x01" + b"7" * 7)],  # a frame in a frame, which a cut lays bare
        [Data(1)] * 3,
        [Data(1, b"7" * 7, end_stream=True)],
        [Data(1, b"3" * 3, padding=3)],
        [HeadersPart(13, b"", end_stream=True), Data(1, b"7" * 7)],
        [Data(1, b"7" * 7), Data(1)],
        [Data(1, b"7" * 7), Data(1, b"7" * 7, end_stream=True)],
        [Data(1, b"7" * 7), Data(1, b"3" * 3, end_stream=True)],
        [Data(1, b"7" * 7), Data(1, b"3" * 3, padding=3)],
        [Data(1, b"7" * 7), Data(3, b"7" * 7), Data(1, b"7" * 7)],
        [Data(1, b"7" * 7), Data(3, b"3" * 3)],
        [Data(1, b"8" * 8), Ping(), Data(1, b"8" * 8)],
        [Data(1, b"8" * 8), Ping()],
        [Data(5, b"7" * 7)],
        [Data(7, b"7" * 7)],
        [Data(9, b"7" * 7)],
        [Data(11, b"3" * 3)],
        [Data(11, b"7" * 7)],
        [Data(13, b"7" * 7)],
        [Data(1, bytes(16_385))],
        [Data(1, bytes(995))],
        [Data(1, bytes(400))] * 2 + [Data(1, bytes(195))],
        [Data(1, bytes(400))] * 2 + [Data(1, bytes(194)), Data(1, b"x")],
    ],
)
@pytest.mark.parametrize("cut", [0, -2, -12, -17])
def test_both_machines_take_a_read_of_content_for_the_same(read: list[Frame], cut: int) -> None:
    both = started(stream_window=1000)
    for number in (1, 3, 5, 9):
        both.hear(Headers(number, POST), Data(number, b"before"))
    both.hear(RstStream(5, ErrorCodes.CANCEL), Data(9, b"", end_stream=True))
    both.hear(Headers(11, [*POST, (b"content-length", b"9")]), Data(11, b"before"))
    both.hear(*read, cuts=[cut])


def test_both_machines_hold_a_client_to_a_smaller_window_once_it_knows() -> None:
    both = Both(**LIMITS)
    both.hear(PREFACE, Settings(), Headers(1, POST), Data(1, bytes(5000)))
    both.hear(Settings(ack=True), Headers(3, POST), Data(3, bytes(1000)))
    assert both.fault is None
    both.hear(Data(1, b"x"))
    assert both.fault == (ErrorCodes.FLOW_CONTROL_ERROR, None)


def test_both_machines_split_a_head_that_is_larger_than_a_frame() -> None:
    both = started()
    both.hear(Headers(1, GET, end_stream=True))
    large = [
        (b":status", b"200"),
        *[(b"x-%d" % number, os.urandom(20).hex().encode()) for number in range(900)],
    ]
    both.send_head(1, end=True, fields=large)


@pytest.mark.parametrize("late", ["data", "head"])
def test_both_machines_count_what_comes_late(late: str) -> None:
    both = started()
    both.hear(Headers(1, GET, end_stream=True))
    both.send_head(1, end=True)
    both.hear(Headers(3, GET), RstStream(3, 8))
    frame = Data(1, b"x") if late == "data" else Headers(3, GET, end_stream=True)
    for _ in range(100):
        both.hear(frame)
    assert both.fault == (ErrorCodes.ENHANCE_YOUR_CALM, "max_control_frames")
