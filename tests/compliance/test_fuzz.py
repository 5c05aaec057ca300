"""A bounded part of what `make fuzz` does for hours, and that the fuzzers would notice."""

import asyncio
import re
from pathlib import Path

import pytest

from compliance.fuzz import FUZZERS
from compliance.fuzzing import CORPUS, ROUND, Fuzzer, fuzz
from support.logs import unconfigured

INPUTS = {"http1": 300, "http2": 200, "hpack": 1000, "websocket": 1000, "client_hello": 1000, "proxy": 1000}
"""How many take a second."""


@pytest.mark.parametrize("fuzzer", FUZZERS.values(), ids=FUZZERS)
@unconfigured()
def test_every_seed_holds_as_it_is(fuzzer: Fuzzer) -> None:
    async def hold() -> None:
        for number, data in enumerate(dict.fromkeys(fuzzer.seeds)):
            await fuzzer.check(data, number)

    asyncio.run(hold())


@pytest.mark.parametrize("first_seed", [0, 1_000_000])
@pytest.mark.parametrize("fuzzer", FUZZERS.values(), ids=FUZZERS)
@unconfigured()  # else pytest remembers every failure of an application
def test_whatever_is_said_the_server_stays_sane(fuzzer: Fuzzer, first_seed: int, tmp_path: Path) -> None:
    number = INPUTS[fuzzer.name]
    assert asyncio.run(fuzz(fuzzer, first_seed, tmp_path, inputs=number)) == number


def test_an_input_that_fails_is_written_down(tmp_path: Path) -> None:
    async def check(data: bytes, _seed: int) -> None:
        assert b"!" not in data

    with pytest.raises(AssertionError):
        asyncio.run(fuzz(Fuzzer("any", [b"seed"], [b"!"], check), 0, tmp_path))
    (written,) = tmp_path.iterdir()
    assert b"!" in written.read_bytes()


def test_memory_that_is_not_given_back_is_noticed(tmp_path: Path) -> None:
    leak: list[str] = []

    async def check(_data: bytes, seed: int) -> None:
        leak.extend(f"{seed} {number}" for number in range(30))

    with pytest.raises(AssertionError, match="objects more"):
        asyncio.run(fuzz(Fuzzer("any", [b""], [b""], check), 0, tmp_path, inputs=2 * ROUND))


def test_the_readme_says_of_every_input_what_it_is() -> None:
    sections = re.split(r"^## (\w+)$", (CORPUS / "README.md").read_text(), flags=re.MULTILINE)[1:]
    said = {
        f"{folder}/{name}"
        for folder, rows in zip(sections[::2], sections[1::2], strict=True)
        for name in re.findall(r"^\| (\S+\.\w+) \| .+ \|$", rows, flags=re.MULTILINE)
    }
    assert said == {f"{path.parent.name}/{path.name}" for path in CORPUS.glob("*/*")}
