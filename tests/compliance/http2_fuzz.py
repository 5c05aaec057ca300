"""Fuzzing HTTP/2: inputs are held as conversations, on both engines, and what holds of all of them is checked.

Of any bytes, in any pieces, with any application, client and point in time:
- no exception escapes, nor becomes an INTERNAL_ERROR;
- no task, stream, connection or deadline is left when the client has gone;
- frames come in an order that RFC 9113 allows, and both engines say the same;
- the events that are read, and the fault, are the same however the bytes are cut; what waits to be read is bounded.
"""

import random
import struct
from collections.abc import Sequence
from typing import Any

from h2.errors import ErrorCodes

from alphorn.core.errors import ConnectionFault
from alphorn.protocols.http2_events import Event, Machine
from alphorn.protocols.http2_fast_machine import Http2FastMachine
from alphorn.protocols.http2_limits import MAX_CLOSED_STREAMS
from alphorn.protocols.http2_machine import Http2Machine
from support.frames import PREFACE, Frame, Goaway
from support.http2_events import merged
from support.http2_memory import MemoryConnection, memory_connection
from support.http2_whims import NARROW, SMALL, Judge, app, take_steps, undated

from .fuzzing import Fuzzer, cut, kept, pieces_of
from .hpack_fuzz import learn_huffman

ENGINES = ("fast", "reference")
MAX_FRAME = 9 + 16_384
WHIMS = ("turn", "turn", "turn", "read", "read", "read", "time", "shutdown", "hang_up")

TOKENS = (
    *(struct.pack("!BHBBL", 0, length, kind, flags, 1) for length in (0, 4, 8) for kind in range(10) for flags in (0, 5)),
    *(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"\x00\x00\x00\x04\x01\x00\x00\x00\x00", b"\x00\x00\x04\x08\x00\x00\x00\x00\x00"),
    *(b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\x00\x00\x00\x01", b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00"),
    *(b"\x00\x00\x05\x10\x00\x00\x00\x00\x00\x00\x00\x00\x01u", b"\x00\x00\x06\x01\x05\x00\x00\x00\x07\x82\x84\x86\x41\x01a"),
    *(b"\x00\x00\x00\x01", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x00\x40\x01", b"\x82", b"\xbe", b"\x3f\xe1\x1f", PREFACE),
)  # fmt: skip


def joined(data: bytes) -> bytes:
    """Return conversations, one behind the other, as one: streams of each get numbers above those before."""
    first, *others = data.split(PREFACE)
    newest = 0
    for index, part in enumerate(others):
        others[index], newest = shifted(part, newest + newest % 2)
    return PREFACE.join([first, b"".join(others)]) if others else first


def shifted(data: bytes, offset: int) -> tuple[bytes, int]:
    """Return frames with another number of each stream, and the highest."""
    moved = bytearray(data)
    newest, position = offset, 0
    while position + 9 <= len(data):
        (number,) = struct.unpack_from("!L", data, position + 5)
        if number and offset:
            moved[position + 5 : position + 9] = struct.pack("!L", (number + offset) % 2**32)
        newest = max(newest, (number + offset) % 1000)  # a number out of the way moves nobody else
        position += 9 + int.from_bytes(data[position : position + 3])
    return bytes(moved), newest


async def check(data: bytes, seed: int) -> None:
    """Hold one conversation.

    Args:
        data: What the client says.
        seed: Decides about everything else.

    Raises:
        AssertionError: Something does not hold that must.
    """
    learn_huffman()
    chance = random.Random(seed)
    data = joined(data)
    limits = chance.choice((SMALL, NARROW))
    verdicts = [
        verdict(pieces, limits | {"engine": engine})
        for pieces in ([data], cut(chance, data))
        for engine in ENGINES
    ]
    assert all(each == verdicts[0] for each in verdicts), verdicts

    steps: list[Any] = []
    for piece in pieces_of(chance, data):
        steps.append(piece)
        if chance.random() < 0.3:
            steps.append(chance.choice(WHIMS))
    said = [await converse(steps, limits | {"engine": engine}) for engine in ENGINES]
    assert said[0] == said[1]


def verdict(pieces: Sequence[bytes], settings: dict[str, Any]) -> tuple[list[Event], int | None]:
    """Return what is read of the bytes alone: events, and the fault that ends them."""
    machine = MemoryConnection(app, **settings).server._machine
    read: list[Event] = []
    try:
        for piece in pieces:
            read += machine.receive(piece)
            while machine.behind:
                read += machine.receive(b"")
            unread, parts, closed = kept_by(machine)
            assert unread <= MAX_FRAME
            assert parts <= MAX_FRAME
            assert closed <= MAX_CLOSED_STREAMS
    except ConnectionFault as fault:
        return merged(read), fault.code
    return merged(read), None


def kept_by(machine: Machine) -> tuple[int, int, int]:
    """Return how many bytes wait to be read, how many of a field block, and how many closed streams are known."""
    if isinstance(machine, Http2Machine):
        unfinished = machine.incoming_buffer
        parts = sum(len(frame.data) for frame in unfinished._headers_buffer)
        return len(unfinished._data), parts, len(machine._closed_streams)
    assert isinstance(machine, Http2FastMachine)
    return len(machine._unparsed), machine._block_size, len(machine._closed)


async def converse(steps: list[Any], settings: dict[str, Any]) -> list[Frame]:
    """Hold the conversation with a server and return all that it says."""
    async with memory_connection(app, **settings) as connection:
        frames = await take_steps(connection, steps)
        assert len(connection.server._streams) <= 2 * settings["max_streams"]  # and as many promised ones
    errors = [frame.code for frame in frames if isinstance(frame, Goaway)]
    assert ErrorCodes.INTERNAL_ERROR not in errors
    Judge().hear(frames, allowed=2**40)
    return [undated(frame) for frame in frames]


FUZZER = Fuzzer("http2", kept("http2"), TOKENS, check)
