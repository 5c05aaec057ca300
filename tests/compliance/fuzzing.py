"""What all fuzzers share: inputs from the corpus, mangled and cut by chance, for as long as it is told.

Everything about a run follows from its seed, so that a failure can be had again.
"""

import gc
import math
import random
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import NamedTuple

CORPUS = Path(__file__).parent / "corpus"

ROUND = 100
"""After so many inputs memory is looked at; by the first time, what fills once has been filled."""

MAX_GROWTH = 2000
"""How many more objects there may be than after the first round: caches, and the rest of what fills once."""


class Fuzzer(NamedTuple):
    """A parser, and what to try on it.

    Attributes:
        name: Of the parser, and of its folder in the corpus.
        seeds: What to begin with.
        tokens: What means something to the parser.
        check: Fails if something does not hold that must, of an input and a seed that decides about everything else.
    """

    name: str
    seeds: Sequence[bytes]
    tokens: Sequence[bytes]
    check: Callable[[bytes, int], Awaitable[None]]


def kept(name: str) -> list[bytes]:
    """Return the inputs of a folder of the corpus."""
    return [path.read_bytes() for path in sorted((CORPUS / name).glob("*.raw"))]


def mangled(chance: random.Random, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """Return seeds, one behind the other, with a few things changed, and perhaps cut short."""
    data = b"".join(chance.choice(seeds) for _ in range(chance.randint(1, 3)))
    if chance.random() < 0.3:
        data = data[: chance.randint(0, len(data))]
    for _ in range(chance.choice((0, 0, 1, 1, 2, 5))):
        start = chance.randint(0, len(data))
        end = min(len(data), start + chance.choice((0, 1, 2, 8, 64)))
        middle = data[start:end]
        change = chance.randint(0, 5)
        if change == 0:
            middle = b""
        elif change == 1:
            middle = middle * chance.randint(2, 5)
        elif change == 2:
            middle = chance.randbytes(len(middle))
        elif change == 3:
            middle = bytes(byte ^ 1 << chance.randint(0, 7) for byte in middle)
        else:
            middle = chance.choice(tokens) + middle[chance.randint(0, 1) :]
        data = data[:start] + middle + data[end:]
    return data


def pieces_of(chance: random.Random, data: bytes) -> list[bytes]:
    """Return the data cut at random, in one piece as often as not."""
    return [data] if chance.random() < 0.5 else cut(chance, data)


def cut(chance: random.Random, data: bytes) -> list[bytes]:
    """Return the data in some pieces, of which some may be empty."""
    places = sorted(chance.randint(0, len(data)) for _ in range(chance.randint(1, 12)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


async def fuzz(
    fuzzer: Fuzzer, first_seed: int, failures: Path, *, seconds: float = math.inf, inputs: float = math.inf
) -> int:
    """Try mangled inputs, for so many seconds or as many as there shall be.

    Args:
        fuzzer: What to try them on.
        first_seed: Of the first; the others count on.
        failures: The folder in which an input that fails is written down.
        seconds: After which it is over.
        inputs: Likewise.

    Returns:
        How many were tried.

    Raises:
        AssertionError: One of them failed, or memory is not flat.
    """
    tried = 0
    objects_at_first = 0
    end = time.monotonic() + seconds
    while tried < inputs and time.monotonic() < end:
        seed = first_seed + tried
        data = mangled(random.Random(seed), fuzzer.seeds, fuzzer.tokens)
        try:
            await fuzzer.check(data, seed)
        except BaseException:
            failed = failures / f"failed-{fuzzer.name}-{seed}.raw"
            failed.write_bytes(data)
            print(f"{fuzzer.name}: seed {seed} fails, see {failed}")
            raise
        tried += 1
        if tried % ROUND == 0:
            growth = objects() - (objects_at_first := objects_at_first or objects())
            assert growth < MAX_GROWTH, f"{fuzzer.name}: {growth} objects more after {tried} inputs"
    return tried


def objects() -> int:
    """Return how many blocks of memory are in use, after all garbage has been collected."""
    gc.collect()
    return sys.getallocatedblocks()
