"""All fuzzers, one after another: `python -m compliance.fuzz SECONDS [NAME [SEED]]`, in tests/.

An input that fails is written beside this file, to be added to the corpus once it is understood.
"""

import asyncio
import logging
import sys
import time
from pathlib import Path

from . import hpack_fuzz, http1_fuzz, http2_fuzz, opening_fuzz, websocket_fuzz
from .fuzzing import Fuzzer, fuzz

FUZZERS: dict[str, Fuzzer] = {
    fuzzer.name: fuzzer
    for fuzzer in (
        http1_fuzz.FUZZER,
        http2_fuzz.FUZZER,
        hpack_fuzz.FUZZER,
        websocket_fuzz.FUZZER,
        opening_fuzz.CLIENT_HELLO,
        opening_fuzz.PROXY,
    )
}


def main(seconds: str = "60", name: str = "", seed: str = "") -> None:
    """Run every fuzzer for some seconds, or the one that is named, perhaps from a seed."""
    logging.getLogger().addHandler(logging.NullHandler())  # applications fail here on purpose
    for fuzzer in [FUZZERS[name]] if name else FUZZERS.values():
        first_seed = int(seed or time.time_ns())
        tried = asyncio.run(fuzz(fuzzer, first_seed, Path(__file__).parent, seconds=float(seconds)))
        print(f"{fuzzer.name}: {tried} inputs from seed {first_seed}, and everything held", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
