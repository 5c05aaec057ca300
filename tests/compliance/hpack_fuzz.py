"""Fuzzing HPACK: any blocks are accepted or refused as hpack does, and leave the same table behind.

What was decoded is encoded again by ours, for hpack to decode. The table stays within its bounds.
"""

import functools
import random

from alphorn.protocols import hpack_huffman
from support.hpack_pair import Coders, Decoders

from .fuzzing import CORPUS, Fuzzer

TOKENS = (
    *(b"\x80", b"\x82", b"\xbe", b"\xbf", b"\xff\x00", b"\xff\x80\x80\x80\x80\x80", b"\x20", b"\x3f\xe1\x1f", b"\x3f\x09"),
    *(b"\x40\x01x\x01y", b"\x10\x01x\x81\xf3", b"\x00\x81\x1f\x81\x1f", b"\x7e\x01z", b"\x41\x7f\x81\x02" + b"v" * 256),
    *(b"\xff\xff\xff\xff", b"\x84\xff\xff\xff\xff", b"\x00\x02", b"\x00\x01\x82", b"\x00\x00", b"\x01\x00"),
)  # fmt: skip


def seeds() -> list[bytes]:
    """All connections of the corpus, each block behind two bytes with its length."""
    found = []
    for path in sorted((CORPUS / "hpack").glob("*.hex")):
        blocks = [bytes.fromhex(line) for line in path.read_text().splitlines()]
        found.append(b"".join(len(block).to_bytes(2) + block for block in blocks))
    return found


def blocks_of(data: bytes) -> list[bytes]:
    """Return the blocks of a connection; the last one may be shorter than its length says."""
    blocks = []
    while data:
        end = 2 + int.from_bytes(data[:2])
        blocks.append(data[2:end])
        data = data[end:]
    return blocks


@functools.cache
def learn_huffman() -> None:
    """Compute all states of the Huffman automaton, of which a process else keeps those that it has come to."""
    for state in hpack_huffman._STATES:
        if not state:
            hpack_huffman._compute(state)


async def check(data: bytes, seed: int) -> None:
    """Decode the blocks of one connection, and encode their fields.

    Args:
        data: As `seeds` gives it.
        seed: Decides about the sizes of tables that are allowed.

    Raises:
        AssertionError: Something does not hold that must.
    """
    learn_huffman()
    chance = random.Random(seed)
    decoders, coders = Decoders(), Coders()
    for block in blocks_of(data):
        if chance.random() < 0.1:
            decoders.allow(chance.choice((0, 100, 4096, 8192)))
            coders.allow(chance.choice((0, 100, 4096, 8192)))
        fields = decoders.decode(block)
        check_bounds(decoders)
        if decoders.failed:
            return
        coders.passes(fields)


def check_bounds(decoders: Decoders) -> None:
    """Hold what a decoder has kept against what it may keep."""
    ours = decoders.ours
    assert decoders.failed or ours._table_bytes <= ours.header_table_size <= 8192


FUZZER = Fuzzer("hpack", seeds(), TOKENS, check)
