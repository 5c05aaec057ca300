"""The WebSocket codec and its handshake: bytes in, events out, however the bytes are cut."""

import itertools
import zlib
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from wsproto.connection import CLIENT, Connection
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.events import Event as ClientEvent
from wsproto.extensions import PerMessageDeflate

from alphorn.core.asgi import Field
from alphorn.core.codec import Close, Codec, Crumb, Event, Pause, Ping, Pong, TooBig, Violation
from alphorn.core.config import Config
from alphorn.core.errors import StreamFault, UnexpectedMessage
from alphorn.protocols import websocket_plain
from alphorn.protocols.websocket import open_codec, open_handshake
from alphorn.protocols.websocket_deflate import agree
from alphorn.protocols.websocket_mask import unmask, unmask_in_python
from support.engine import ENGINE, ENGINES, Engine
from support.websocket_client import frame

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
RSV1 = 4
MAX_FRAME = 100_000

Frames: TypeAlias = list[bytes]

on_any_machine = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Characters of one to four bytes.
texts = st.text("a\0é€🎺", max_size=40)


def turns_of(codec: Codec, *pieces: bytes) -> list[Event]:
    events: list[Event] = []
    for piece in pieces:
        codec.feed(piece)
        while (event := codec.next_event()) is not None:
            events.append(event)
    return events


def events_of(codec: Codec, *pieces: bytes) -> list[Event]:
    """What is said, whoever has a turn meanwhile."""
    return [event for event in turns_of(codec, *pieces) if not isinstance(event, Pause)]


def verdict(events: list[Event]) -> list[Event]:
    """What must not depend on the pieces.

    Of one message, too big and no text, either may be found first; and of a frame, that it is too big or its end.
    """
    dropping = next((index for index, event in enumerate(events) if isinstance(event, TooBig)), len(events))
    said = events[:dropping] + [event for event in events[dropping:] if not isinstance(event, Crumb)]
    if not said or not isinstance(said[-1], Violation):
        return said
    return [event for event in said if not (isinstance(event, TooBig) and event.setting == "ws_max_message")]


def plain(max_message: int = 1024, max_frame: int = MAX_FRAME, engine: Engine = ENGINE) -> Codec:
    return open_codec(Config(ws_max_message=max_message, ws_max_frame=max_frame, engine=engine))


def deflating(
    offer: bytes = b"permessage-deflate", max_message: int = 1024, engine: Engine = ENGINE
) -> Codec:
    agreement = agree(offer, max_message)
    assert agreement is not None
    config = Config(ws_max_message=max_message, ws_max_frame=MAX_FRAME, engine=engine)
    return open_codec(config, agreement[1])


def too_big(max_message: int) -> TooBig:
    return TooBig("ws_max_message", f"a message has at most {max_message} bytes")


def cut(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = [0, *sorted(place % (len(data) + 1) for place in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


# ------------------------------------------------------------------ any split, any bytes


@st.composite
def conversations(draw: st.DrawFn) -> bytes:
    """What a client may send: whole and fragmented messages, pings between them, perhaps faults."""
    frames: Frames = []
    small = st.binary(max_size=40)
    for _ in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["text", "no text", "binary", "fragments", "control", "fault"]))
        if kind == "text":
            frames.append(frame(TEXT, draw(texts).encode()))
        elif kind == "no text":
            frames.append(frame(TEXT, draw(texts).encode() + b"\xff" + draw(texts).encode()))
        elif kind == "binary":
            frames.append(frame(BINARY, draw(st.binary(max_size=200))))
        elif kind == "fragments":
            opcode = draw(st.sampled_from([TEXT, BINARY]))
            message = draw(texts).encode()
            parts = cut(message, draw(st.lists(st.integers(0, 300), max_size=4)))
            for index, part in enumerate(parts):
                last = index == len(parts) - 1
                frames.append(frame(opcode if index == 0 else CONTINUATION, part, fin=last))
                if draw(st.booleans()) and not last:
                    frames.append(frame(PING, draw(small)))
        elif kind == "control":
            frames.append(frame(draw(st.sampled_from([PING, PONG])), draw(small)))
        else:
            frames.append(frame(draw(st.integers(0, 15)), draw(small), rsv=draw(st.integers(0, 7))))
    if draw(st.booleans()):
        frames.append(frame(CLOSE, b"\x03\xe8bye"))
    return b"".join(frames)


@on_any_machine
@given(conversations(), st.lists(st.integers(0, 2000), max_size=8))
def test_any_split_of_the_same_bytes_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    assert verdict(events_of(plain(100), *cut(data, cuts))) == verdict(events_of(plain(100), data))


@on_any_machine
@given(conversations())
def test_bytes_may_come_one_by_one(data: bytes) -> None:
    assert events_of(plain(), *(data[i : i + 1] for i in range(len(data)))) == events_of(plain(), data)


@on_any_machine
@given(
    st.lists(st.one_of(texts, st.binary(max_size=100)), max_size=5),
    st.lists(st.integers(0, 2000), max_size=8),
    st.sampled_from(
        [
            b"permessage-deflate",
            b"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            b"permessage-deflate; server_max_window_bits=9; client_max_window_bits=9",
        ]
    ),
)
def test_any_split_of_compressed_messages_gives_those_messages(
    messages: list[str | bytes], cuts: list[int], offer: bytes
) -> None:
    client = client_of(offer)
    data = b"".join(client.send(as_event(message)) for message in messages)

    assert events_of(deflating(offer), *cut(data, cuts)) == messages


@on_any_machine
@given(st.lists(st.one_of(texts, st.binary(max_size=100)), max_size=5), st.booleans())
def test_what_the_codec_sends_a_client_understands(messages: list[str | bytes], compressed: bool) -> None:
    offer = b"permessage-deflate"
    client = client_of(offer) if compressed else Connection(CLIENT)
    codec = deflating(offer) if compressed else plain()
    for message in messages:
        client.receive_data(codec.message(message))
    events = list(client.events())

    assert [event.data for event in events if isinstance(event, TextMessage | BytesMessage)] == messages


@on_any_machine
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4), st.booleans())
@example(b"\xc1\xfe", [], True)
def test_no_bytes_make_it_raise_and_nothing_follows_the_end(
    data: bytes, cuts: list[int], compressed: bool
) -> None:
    codec = deflating(max_message=100) if compressed else plain(100)
    events = events_of(codec, *cut(data, cuts))

    assert not any(isinstance(event, Violation | Close) for event in events[:-1])
    if events and isinstance(events[-1], Violation | Close):
        assert events_of(codec, frame(TEXT, b"more")) == []


def client_of(offer: bytes) -> Connection:
    extension = PerMessageDeflate()
    extension.finalize(offer.decode())
    return Connection(CLIENT, [extension])


def as_event(message: str | bytes) -> ClientEvent:
    return TextMessage(message) if isinstance(message, str) else BytesMessage(message)


# ------------------------------------------------------------------ events


def test_messages_and_control_frames_become_events() -> None:
    codec = plain()
    events = events_of(
        codec,
        frame(TEXT, "é".encode()) + frame(BINARY, b"\xff") + frame(PING, b"a") + frame(PONG, b"b"),
        frame(CLOSE, b"\x03\xe8bye") + frame(TEXT, b"behind it"),
    )

    assert events == ["é", b"\xff", Ping(b"a"), Pong(), Close(1000, "bye")]
    assert [type(event) for event in events[:2]] == [str, bytes]


def test_a_message_too_big_is_dropped_like_all_behind_it_but_control_frames_are_not() -> None:
    events = events_of(
        plain(10),
        frame(TEXT, b"x" * 11) + frame(TEXT, b"fits") + frame(PING, b"ping") + frame(BINARY, b"", fin=False),
        frame(CONTINUATION, b"x" * 1000) + frame(CLOSE, b"\x03\xf1"),
    )

    assert events == [too_big(10), Crumb(), Ping(b"ping"), Crumb(), Close(1009, "")]


@pytest.mark.parametrize("text", ["é" * 6, "x" + "é" * 5, "🎺" * 3, "x🎺🎺🎺", "xx🎺🎺🎺", "xxx🎺🎺🎺"])
def test_a_compressed_text_too_big_is_that_and_not_broken_utf_8(text: str) -> None:
    """Inflating stops in the middle of the message, perhaps in the middle of a character."""
    client = client_of(b"permessage-deflate")
    data = client.send(TextMessage(text)) + client.send(CloseConnection(1009))

    assert events_of(deflating(max_message=10), data) == [too_big(10), Close(1009, "")]
    assert events_of(deflating(max_message=len(text.encode())), data) == [text, Close(1009, "")]


def test_a_message_of_very_many_fragments_takes_no_more_than_its_size() -> None:
    codec = plain()
    empty = frame(CONTINUATION, b"", fin=False)
    events = events_of(codec, frame(TEXT, b"a", fin=False), empty * 5000, frame(CONTINUATION, b"b"))
    assert events == [Crumb()] * 5001 + ["ab"]


def test_a_fragment_is_a_crumb_by_its_size_on_the_wire_unless_it_is_the_last() -> None:
    codec = plain()
    assert events_of(
        codec, frame(BINARY, bytes(13), fin=False), frame(CONTINUATION, bytes(14), fin=False)
    ) == [Crumb()]
    assert events_of(codec, frame(CONTINUATION)) == [bytes(27)]

    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = compressor.compress(bytes(1000)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    parts = [frame(BINARY, zeros[:5], fin=False, rsv=RSV1), frame(CONTINUATION, zeros[5:-4])]
    assert events_of(deflating(), *parts) == [Crumb(), bytes(1000)]


@pytest.mark.parametrize("opcode", [PING, PONG])
def test_a_control_frame_among_compressed_fragments_is_no_part_of_the_message(opcode: int) -> None:
    """RFC 7692, 6.1: nor is it compressed, or says anything about what is."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    noise = bytes(range(256))
    data = (compressor.compress(noise) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    between = frame(opcode, b"x")
    codec = deflating()

    events = events_of(
        codec,
        between + frame(BINARY, data[:100], fin=False, rsv=RSV1) + between,
        frame(CONTINUATION, data[100:]) + between + frame(BINARY, b"plain"),
    )
    assert [event for event in events if isinstance(event, bytes)] == [noise, b"plain"]
    assert len(events) == 5


# ------------------------------------------------------------------ frames too big


def too_big_frame(max_frame: int) -> TooBig:
    return TooBig("ws_max_frame", f"a frame has at most {max_frame} bytes")


def test_a_frame_too_big_is_refused_by_its_head() -> None:
    codec = plain(max_message=1000, max_frame=125)
    assert events_of(codec, frame(BINARY, bytes(125))) == [bytes(125)]

    assert events_of(codec, frame(BINARY, bytes(126))[:8]) == [too_big_frame(125)]
    assert events_of(codec, frame(BINARY, bytes(126))[8:] + frame(CLOSE)) == [Close(1005, "")]


def test_a_frame_too_big_is_not_delivered_although_it_came_whole() -> None:
    codec = plain(max_message=1000, max_frame=125)
    data = frame(BINARY, bytes(126)) + frame(TEXT, b"behind it") + frame(PING, b"")

    assert events_of(codec, data) == [too_big_frame(125), Crumb(), Ping(b"")]


def test_a_frame_too_big_is_refused_before_it_is_found_malformed() -> None:
    data = frame(TEXT, b"\xff" * 126)
    whole = events_of(plain(max_frame=125), data)

    assert whole[0] == too_big_frame(125)
    assert [type(event) for event in whole] == [TooBig, Violation]
    assert [type(event) for event in events_of(plain(max_frame=125), data[:8], data[8:])] == [
        TooBig,
        Violation,
    ]


def test_a_frame_too_big_that_is_empty_when_inflated_is_refused_all_the_same() -> None:
    codec = deflating(max_message=MAX_FRAME)
    nothing = b"\0\0\0\xff\xff" * (MAX_FRAME // 5) + b"\0"  # stored blocks of no bytes (RFC 1951, 3.2.4)

    assert events_of(codec, frame(BINARY, nothing, rsv=RSV1)) == [too_big_frame(MAX_FRAME)]


def test_what_inflates_too_far_is_not_inflated_to_the_end() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(bytes(50 * 1024 * 1024)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    codec = deflating(max_message=1000)

    assert events_of(codec, frame(BINARY, bomb[:-4], rsv=RSV1), frame(PING, b"")) == [
        too_big(1000),
        Ping(b""),
    ]


def test_others_get_their_turn_while_much_is_inflated() -> None:
    message = bytes(4 * 1024 * 1024)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    compressed = compressor.compress(message) + compressor.flush(zlib.Z_SYNC_FLUSH)
    codec = deflating(max_message=len(message))

    *pauses, last = turns_of(codec, frame(BINARY, compressed[:-4], rsv=RSV1))

    assert last == message
    assert len(pauses) >= 16
    assert set(pauses) == {Pause()}


def test_others_get_their_turn_while_much_is_unmasked() -> None:
    codec = plain(4 * 1024 * 1024, 4 * 1024 * 1024, "reference")

    *pauses, last = turns_of(codec, frame(BINARY, bytes(2 * 1024 * 1024)))

    assert last == bytes(2 * 1024 * 1024)
    assert len(pauses) >= 8
    assert set(pauses) == {Pause()}


def test_behind_a_message_that_is_too_big_nothing_is_inflated() -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = compressor.compress(bytes(4 * 1024 * 1024)) + compressor.flush(zlib.Z_SYNC_FLUSH)
    codec = deflating(max_message=1000)
    message = frame(BINARY, bomb[:-4], rsv=RSV1)

    assert events_of(codec, message * 3, frame(PING, b"")) == [too_big(1000), Ping(b"")]


def test_the_bound_is_each_messages_own() -> None:
    client = client_of(b"permessage-deflate")
    data = b"".join(client.send(BytesMessage(bytes(900))) for _ in range(3))

    assert events_of(deflating(max_message=1000), data) == [bytes(900)] * 3


def test_a_final_deflate_block_ends_neither_the_message_nor_the_ones_after_it() -> None:
    """RFC 7692, 7.2.3.4 with its example, and 7.2.3.3 for a block of several."""
    final = bytes.fromhex("f348cdc9c9070000")
    codec = deflating()

    assert events_of(codec, frame(TEXT, final, rsv=RSV1) * 2) == ["Hello", "Hello"]
    assert events_of(codec, frame(TEXT, final[:-1] * 2, rsv=RSV1)) == ["HelloHello"]


def test_the_examples_of_rfc_7692_are_understood() -> None:
    """Section 7.2.3: one block, shared window, no compression, two blocks."""
    hello = bytes.fromhex("f248cdc9c90700")
    codec = deflating()

    assert events_of(codec, frame(TEXT, hello, rsv=RSV1)) == ["Hello"]
    assert events_of(codec, frame(TEXT, bytes.fromhex("f200110000"), rsv=RSV1)) == ["Hello"]
    assert events_of(codec, frame(TEXT, bytes.fromhex("000500faff48656c6c6f00"), rsv=RSV1)) == ["Hello"]
    assert events_of(codec, frame(TEXT, bytes.fromhex("f24805000000ffffcac9c90700"), rsv=RSV1)) == ["Hello"]
    assert events_of(codec, frame(TEXT, b"plain")) == ["plain"]


# ------------------------------------------------------------------ close frames


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (1000, "", b"\x88\x02\x03\xe8"),
        (1005, "", b"\x88\x00"),
        (1005, "left out", b"\x88\x00"),
        (4000, "é", b"\x88\x04\x0f\xa0\xc3\xa9"),
        (1000, "x" * 200, b"\x88\x7d\x03\xe8" + b"x" * 123),
        (1000, "xx" + "🎺" * 40, b"\x88\x7c\x03\xe8xx" + "🎺".encode() * 30),
    ],
)
def test_a_close_frame_has_room_for_123_bytes_of_whole_characters(
    code: int, reason: str, expected: bytes
) -> None:
    """RFC 6455, 5.5 and 5.5.1."""
    assert plain().close(code, reason) == expected


def test_a_second_close_frame_is_none() -> None:
    codec = plain()
    assert codec.close(1000, "") != b""
    assert codec.close(1011, "") == b""


# ------------------------------------------------------------------ agreeing to compress


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        (b"", None),
        (b"x-webkit-deflate-frame", None),
        (b"permessage-deflate", b"permessage-deflate"),
        (b"permessage-deflate; client_max_window_bits", b"permessage-deflate"),
        (b"permessage-deflate; client_max_window_bits=8", b"permessage-deflate"),
        (b'permessage-deflate ;client_max_window_bits = "10"', b"permessage-deflate"),
        (
            b"permessage-deflate; server_max_window_bits=9",
            b"permessage-deflate; server_max_window_bits=9",
        ),
        (
            b"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
            b"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        ),
        # The first offer that can be agreed to counts.
        (b"x, permessage-deflate", b"permessage-deflate"),
        (b",, permessage-deflate ,", b"permessage-deflate"),
        (b"permessage-deflate; server_max_window_bits=8, permessage-deflate", b"permessage-deflate"),
        (
            b"permessage-deflate; server_no_context_takeover, permessage-deflate",
            b"permessage-deflate; server_no_context_takeover",
        ),
        # RFC 7692, 7.1: what is unknown, out of range, repeated or malformed declines the offer.
        (b"permessage-deflate; unknown", None),
        (b"permessage-deflate; unknown=1", None),
        (b"permessage-deflate; server_max_window_bits", None),
        (b"permessage-deflate; server_max_window_bits=7", None),
        (b"permessage-deflate; server_max_window_bits=8", None),  # zlib cannot
        (b"permessage-deflate; server_max_window_bits=16", None),
        (b"permessage-deflate; server_max_window_bits=09", None),
        (b"permessage-deflate; server_max_window_bits=x", None),
        (b"permessage-deflate; client_max_window_bits=16", None),
        (b"permessage-deflate; client_max_window_bits=-9", None),
        (b"permessage-deflate; server_no_context_takeover=1", None),
        (b"permessage-deflate; client_max_window_bits; client_max_window_bits", None),
        (b"permessage-deflate; ", None),
        (b"permessage-deflate; server_max_window_bits=", None),
        (b"permessage-deflate server_no_context_takeover", None),
        (b"permessage-deflate\xff", None),
    ],
)
def test_the_first_acceptable_offer_is_agreed_to(offers: bytes, answer: bytes | None) -> None:
    agreement = agree(offers, 1000)

    assert (agreement and agreement[0]) == answer


@on_any_machine
@given(st.text(st.sampled_from('permsag-dflt_cxwinbk0189;=, \t"'), max_size=200))
@example("permessage-deflate" + " " * 60_000 + "!;")
@example("permessage-deflate" + "; a" * 20_000 + "=")
def test_no_offer_makes_it_raise_or_ponder(offers: str) -> None:
    agree(offers.encode(), 1000)


def test_a_smaller_window_is_kept_to() -> None:
    """A client that asked for 9 bits may have no more memory than that (RFC 7692, 7.1.2.1)."""
    codec = deflating(b"permessage-deflate; server_max_window_bits=9", 10_000)
    pattern = bytes(range(256)) * 4  # repeats within 512 bytes
    far = bytes(1000) + pattern + bytes(1000) + pattern
    inflater = zlib.decompressobj(-9)
    data = b"".join(codec.message(message)[4:] + b"\0\0\xff\xff" for message in (pattern, far))

    assert inflater.decompress(data) == pattern + far


def test_without_context_takeover_each_message_stands_alone() -> None:
    codec = deflating(b"permessage-deflate; server_no_context_takeover")
    first, second = codec.message(b"again and again"), codec.message(b"again and again")

    assert first == second


def test_with_context_takeover_messages_build_on_each_other() -> None:
    codec = deflating()
    first, second = codec.message(b"again and again"), codec.message(b"again and again")

    assert len(second) < len(first)


# ------------------------------------------------------------------ the handshake


KEY = (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ==")
VERSION = (b"sec-websocket-version", b"13")


def test_the_example_of_rfc_6455_is_answered_as_it_is_there() -> None:
    """Section 1.3."""
    handshake = open_handshake(
        [KEY, VERSION, (b"sec-websocket-protocol", b"chat, superchat")], "1.1", Config()
    )
    head, _ = handshake.accept("chat", [(b"x", b"y")])

    assert head.status == 101
    assert head.fields == [
        (b"upgrade", b"websocket"),
        (b"connection", b"upgrade"),
        (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        (b"sec-websocket-protocol", b"chat"),
        (b"x", b"y"),
    ]


def test_over_http2_there_is_no_key_and_no_upgrade() -> None:
    """RFC 8441, 5."""
    handshake = open_handshake([VERSION], "2", Config())
    head, _ = handshake.accept(None, [])

    assert head.status == 200
    assert head.fields == []


def test_a_subprotocol_that_was_not_offered_cannot_be_chosen() -> None:
    handshake = open_handshake([VERSION, (b"sec-websocket-protocol", b"chat")], "2", Config())

    with pytest.raises(UnexpectedMessage, match="'soap' is not among those offered"):
        handshake.accept("soap", [])


@pytest.mark.parametrize(
    ("fields", "status"),
    [([KEY], 426), ([KEY, (b"sec-websocket-version", b"12")], 426), ([VERSION], 400)],
    ids=["no version", "another version", "no key"],
)
def test_what_is_no_handshake_is_refused(fields: list[Field], status: int) -> None:
    with pytest.raises(StreamFault) as raised:
        open_handshake(fields, "1.1", Config())

    assert raised.value.code == status


# ------------------------------------------------------------------ the two engines


@pytest.fixture(scope="module", params=[unmask, unmask_in_python], ids=["in C", "in Python"])
def unmasking(request: pytest.FixtureRequest) -> Iterator[None]:
    """Take masks off as the server does where websockets has its function in C, and where it has not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(websocket_plain, "unmask", request.param)
        yield


@on_any_machine
@given(st.binary(max_size=1200), st.binary(min_size=4, max_size=4))
def test_a_mask_comes_off_alike_in_c_and_in_python(content: bytes, mask: bytes) -> None:
    expected = bytes(byte ^ key for byte, key in zip(content, itertools.cycle(mask), strict=False))
    for masked in (content, bytearray(content), memoryview(content)):
        assert unmask(masked, mask) == unmask_in_python(masked, mask) == expected


TOO_BIG_AND_NO_TEXT = bytes.fromhex(
    "0180c5c34963008096d8f24e00807b612a428080995ea96e8180abe7895a819dd369d23c10c030be7f8b509031eb7ede51c5"
    "30be7f8b509023f65c8623f65c862c"
)

TOO_BIG_BEFORE_ITS_END = bytes.fromhex(
    "8182d045c717b124018032f4f095008064c7dbdf8989938c64bd938c64bd938c64bd9300805ac549810080bc689e2f808c46"
    "ef7702278e1663272cdec1ef0df5ae"
)


@pytest.mark.usefixtures("unmasking")
@on_any_machine
@example(TOO_BIG_AND_NO_TEXT, [], 0, True, 8)
@example(TOO_BIG_BEFORE_ITS_END, [], 0, True, 8)
@given(
    conversations(),
    st.lists(st.integers(0, 2000), max_size=8),
    st.integers(0, 50),
    st.booleans(),
    st.sampled_from([8, 100]),
)
def test_both_engines_read_the_same(
    data: bytes, cuts: list[int], missing: int, compressed: bool, max_message: int
) -> None:
    if compressed:
        codecs = [deflating(max_message=max_message, engine=engine) for engine in ENGINES]
    else:
        codecs = [plain(max_message, max_frame=125, engine=engine) for engine in ENGINES]
    there = data[: len(data) - missing]
    fast, reference = (verdict(events_of(codec, *cut(there, cuts))) for codec in codecs)
    assert fast == reference


@pytest.mark.usefixtures("unmasking")
@on_any_machine
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
@example(b"\x89\xfe", [])  # a ping too long is refused by its first two bytes
@example(b"\x81\x84\0\0\0\0\xff", [])  # a text that is none, by the first of its four bytes
def test_both_engines_judge_any_bytes_alike(data: bytes, cuts: list[int]) -> None:
    fast, reference = (events_of(plain(engine=engine), *cut(data, cuts)) for engine in ENGINES)
    assert fast == reference


@pytest.mark.usefixtures("unmasking")
@pytest.mark.parametrize("size", [1, 700, 5000])
def test_both_engines_read_large_messages_in_pieces(size: int) -> None:
    data = bytes(range(256)) * 300
    text = "aé€🎺" * 7000
    wire = frame(BINARY, data) + frame(TEXT, text.encode()) + frame(PING, b"x" * 125) + frame(TEXT, b"next")
    pieces = [wire[start : start + size] for start in range(0, len(wire), size)]
    for engine in ENGINES:
        codec = plain(max_message=100_000, engine=engine)
        assert events_of(codec, *pieces) == [data, text, Ping(b"x" * 125), "next"]


@on_any_machine
@given(
    st.lists(
        st.one_of(texts, st.binary(max_size=100), st.sampled_from([bytes(125), bytes(126), bytes(65536)]))
    )
)
def test_both_engines_write_the_same(messages: list[str | bytes]) -> None:
    fast, reference = (plain(engine=engine) for engine in ENGINES)
    for message in messages:
        assert fast.message(message) == reference.message(message)
    assert fast.ping() == reference.ping()
    assert fast.pong(b"x") == reference.pong(b"x")
    assert fast.close(1000, "bye") == reference.close(1000, "bye")


@pytest.mark.parametrize("payload", ["a\ud800b", "\udfff"])
def test_both_engines_refuse_half_of_a_surrogate_pair(payload: str) -> None:
    for engine in ENGINES:
        with pytest.raises(UnicodeEncodeError):
            plain(engine=engine).message(payload)
