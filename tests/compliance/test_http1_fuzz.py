"""A bounded part of what `python -m compliance.http1_fuzz` does for hours."""

import asyncio

import pytest

from compliance.http1_fuzz import check, fuzz, seeds

CONVERSATIONS = 400


def test_every_seed_holds_as_it_is() -> None:
    async def hold() -> None:
        for number, data in enumerate(dict.fromkeys(seeds())):
            await check(data, number)

    asyncio.run(hold())


@pytest.mark.parametrize("first_seed", [0, 1_000_000])
def test_whatever_is_said_the_server_stays_sane(first_seed: int) -> None:
    held = asyncio.run(fuzz(first_seed, lambda held: held == CONVERSATIONS))
    assert held == CONVERSATIONS
