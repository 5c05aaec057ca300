"""Fuzzing the WebSocket codec: any bytes, compressed or not, in any pieces, are the same events.

No exception escapes, nothing follows the end, and what is kept of a message stays within its bound.
"""

import random
from collections.abc import Sequence

from alphorn.core.codec import Close, Crumb, Event, TooBig, Violation
from alphorn.protocols.websocket import WebSocketCodec
from alphorn.protocols.websocket_deflate import agree

from .fuzzing import Fuzzer, cut, kept

OFFERS = (b"", b"permessage-deflate", b"permessage-deflate; client_no_context_takeover")
MAX_MESSAGES = (100, 1000, 100_000)
MAX_FRAMES = (125, 100_000)
MAX_HEAD = 14

TOKENS = (
    *(b"\x81\x80", b"\x01\x80", b"\x80\x80", b"\x82\x80", b"\x88\x80", b"\x89\x80", b"\x8a\x80", b"\xc1\x80", b"\x41\x80"),
    *(b"\x81\x85maskhello", b"\xc1\x87\0\0\0\0\xf2H\xcd\xc9\xc9\x07\0", b"\xc1\x88\0\0\0\0\xf3H\xcd\xc9\xc9\x07\0\0"),
    *(b"\x88\x82\0\0\0\0\x03\xe8", b"\x89\x84\0\0\0\0ping", b"\0\0\0\0", b"\xfe\x00\x7e", b"\xff\0\0\0\0\0\0\xff\xff"),
    *(b"\x82\xfe\x00\xc8", b"\xed\xa0\x80", b"\xc3", b"\xa9", b"\xf0\x9f\x8e", b"\0\0\xff\xff", b"\x00\x80\0\0\0\0" * 20),
)  # fmt: skip


async def check(data: bytes, seed: int) -> None:
    """Hold what a client says against itself, in other pieces.

    Args:
        data: What it says after the handshake.
        seed: Decides about the pieces, the limits and what was agreed.

    Raises:
        AssertionError: Something does not hold that must.
    """
    chance = random.Random(seed)
    limits = chance.choice(MAX_MESSAGES), chance.choice(MAX_FRAMES)
    for offer in OFFERS:
        whole = events_of([data], offer, *limits)
        assert not any(isinstance(event, Violation | Close) for event in whole[:-1])
        assert sum(isinstance(event, TooBig) for event in whole) <= 1
        assert verdict(events_of(cut(chance, data), offer, *limits)) == verdict(whole)


def events_of(pieces: Sequence[bytes], offer: bytes, max_message: int, max_frame: int) -> list[Event]:
    """Return all events, as the connection would hear of them."""
    agreement = agree(offer, max_message)
    codec = WebSocketCodec(max_message, max_frame, agreement[1] if agreement else None)
    events: list[Event] = []
    for piece in pieces:
        codec.feed(piece)
        while (event := codec.next_event()) is not None:
            events.append(event)
            assert not isinstance(event, str | bytes) or size_of(event) <= max_message
        if not events or not isinstance(events[-1], Violation | Close):
            check_bounds(codec, max_message)
    return events


def verdict(events: list[Event]) -> list[object]:
    """Return what must not depend on the pieces: all but crumbs of what is dropped, and which of several faults counts."""
    dropping = next((index for index, event in enumerate(events) if isinstance(event, TooBig)), len(events))
    said = events[:dropping] + [event for event in events[dropping:] if not isinstance(event, Crumb)]
    if said and isinstance(said[-1], Violation):
        said = [event for event in said if not isinstance(event, TooBig) or event.setting == "ws_max_frame"]
    return [Violation if isinstance(event, Violation) else event for event in said]


def check_bounds(codec: WebSocketCodec, max_message: int) -> None:
    """Hold what a codec has kept of what it was fed against what it may keep."""
    assert not codec._unparsed
    assert size_of(codec._text.getvalue() if codec._text else "") + len(codec._binary or b"") <= max_message
    buffer = codec._connection._proto._frame_decoder.buffer
    assert len(buffer) <= MAX_HEAD + 125  # a control frame is waited for


def size_of(message: str | bytes) -> int:
    """Return how many bytes a message has on the wire."""
    return len(message.encode() if isinstance(message, str) else message)


FUZZER = Fuzzer("websocket", kept("websocket"), TOKENS, check)
