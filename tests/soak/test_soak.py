"""A mixed load of clients that do wrong whatever they can, for as long as one likes: nothing is left of it.

`make soak` runs it for SOAK_SECONDS; otherwise ALPHORN_SOAK_SECONDS says how long, 15 by default.
ALPHORN_SOAK_SEED repeats the choices of an earlier run. The clients are here, the servers are
processes of their own: one in the clear, one with TLS. The load comes in rounds; after each, what
the servers hold has to be what they held before any. The first rounds only warm up, because
allocators and caches grow until they have what they need; from then on memory has to stay.
"""

import asyncio
import contextlib
import inspect
import itertools
import json
import os
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from soak import misbehaviour
from soak.misbehaviour import ANYWHERE, EXPECTED, OVER_TLS, TRUSTING, Target
from support.certificates import Pair
from support.http_client import connect_http1, connect_http2
from support.process import ServerProcess
from support.websocket_client import open_websocket

SECONDS: Final = float(os.environ.get("ALPHORN_SOAK_SECONDS", "15"))
SEED: Final = int(os.environ.get("ALPHORN_SOAK_SEED", str(random.SystemRandom().randrange(10**6))))
ROUND_SECONDS: Final = min(30.0, SECONDS / 5)
FEWEST_ROUNDS: Final = 3
ATTACKERS: Final = 16
"""Of each server, at any time."""

PATIENCE_SECONDS: Final = 15.0
"""How long anything may take that a client does: some of them wait for a deadline of the server, or for two."""

SETTLE_SECONDS: Final = 20.0
ALLOWED_GROWTH: Final = 8 * 1024 * 1024
"""Of resident memory in bytes, from the rounds in the middle to the last ones.

With TLS it takes some ten minutes to level off. Of 41 rounds in 18 minutes with five attackers, it was 55.5 MiB
after the first, 59.5 after five, 61.7 after the 22nd and 61.7 after the last, while `mallinfo2` had 7.7 to 7.8 MiB in
use all the time: what is there beyond is free memory between buffers of OpenSSL and of the loop, which glibc
keeps (9 to 12 MiB; `malloc_trim` gives 7 of them back). The cache of TLS sessions stays empty. What Python holds
grows by what is remembered of clients that were named in the log, which is bounded (core/limits.py).
"""

FOLDER: Final = Path(__file__).parent
OPTIONS: Final = (
    *("--head-timeout", "2", "--body-timeout", "2", "--write-timeout", "2", "--handshake-timeout", "2"),
    *("--linger-timeout", "1", "--keep-alive-timeout", "10", "--ws-close-timeout", "2"),
    *("--ws-ping-interval", "2", "--ws-ping-timeout", "5"),
    *("--ws-max-message", "1000000", "--ws-max-frame", "100000", "--no-access-log"),
)
"""Deadlines that are reached within a round, and limits that are soon exceeded."""


class Subject:
    """A server under load, and what it held before."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.at_rest: dict[str, int] = {}
        self.memory: list[int] = []

    async def holdings(self) -> dict[str, int]:
        """Ask the application what its process holds, on a connection of its own."""
        with contextlib.closing(await connect_http1(self.server.url, tls=TRUSTING["1.1"])) as client:
            response = await (await client.request("GET", "/holds")).response()
        held: dict[str, int] = json.loads(response.body)
        return held

    async def settle(self) -> None:
        """Wait until it holds what it held at rest, and no more; note its memory then."""
        patience = time.monotonic() + SETTLE_SECONDS
        while (held := await self.holdings()) != self.at_rest:
            assert time.monotonic() < patience, f"left behind: {differences(self.at_rest, held)}"
            await asyncio.sleep(0.2)
        self.memory.append(self.server.resident_bytes)


def differences(before: dict[str, int], after: dict[str, int]) -> dict[str, str]:
    """Name what is more or fewer than before."""
    names = sorted({*before, *after})
    return {
        name: f"{before.get(name, 0)} -> {after.get(name, 0)}"
        for name in names
        if before.get(name) != after.get(name)
    }


class Load:
    """Attackers and neighbours of one server, and what they did.

    Attributes:
        done: How often each action was taken.
        odd: How often an action ended early, with which kind of exception.
        answers: How many answers the neighbours had; all of them were right.
        slowest: The slowest of them, in seconds.
    """

    def __init__(self, url: str, seed: str) -> None:
        self.done: Counter[str] = Counter()
        self.odd: Counter[str] = Counter()
        self.answers = 0
        self.slowest = 0.0
        self._url = url
        self._seed = seed
        self._actions = ANYWHERE + OVER_TLS if url.startswith("https:") else ANYWHERE

    async def run(self, number: int, seconds: float) -> None:
        """Attack for so long, while neighbours go on; whatever attackers are at then, they break off."""
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as tasks:
            attackers = [
                tasks.create_task(self._attack(f"{self._seed}/{number}/{each}")) for each in range(ATTACKERS)
            ]
            neighbours = [
                tasks.create_task(self._ask_over_http1(end)),
                tasks.create_task(self._ask_over_http2(end)),
                tasks.create_task(self._talk(end)),
            ]
            await asyncio.wait(neighbours)
            for attacker in attackers:
                attacker.cancel()

    async def _attack(self, seed: str) -> None:
        target = Target(self._url, random.Random(seed))
        while True:
            action = target.chance.choice(self._actions)
            self.done[action.__name__] += 1
            try:
                async with asyncio.timeout(PATIENCE_SECONDS) as timer:
                    await action(target)
            except EXPECTED as reason:
                if timer.expired():
                    raise RuntimeError(f"the server has no end of {action.__name__}") from reason
                self.odd[f"{action.__name__}: {type(reason).__name__}"] += 1

    async def _ask_over_http1(self, end: float) -> None:
        with contextlib.closing(await connect_http1(self._url, tls=TRUSTING["1.1"])) as client:
            await self._ask(client.request, end)

    async def _ask_over_http2(self, end: float) -> None:
        with contextlib.closing(await connect_http2(self._url, tls=TRUSTING["2"])) as client:
            await self._ask(client.request, end)

    async def _ask(self, request: Any, end: float) -> None:
        for number in itertools.count():
            if time.monotonic() > end:
                return
            async with self._timed():
                response = await (await request("GET", f"/hello?{number}")).response()
                assert (response.status, response.body) == (200, b"/hello?%d" % number)
                content = bytes([number % 256]) * 20_000
                response = await (await request("POST", "/echo", content=content)).response()
                assert (response.status, response.body, response.complete) == (200, content, True)
            await asyncio.sleep(0.02)

    async def _talk(self, end: float) -> None:
        with contextlib.closing(await connect_http1(self._url, tls=TRUSTING["1.1"])) as client:
            websocket = await open_websocket(client, "/talk")
            for number in itertools.count():
                async with self._timed():
                    await websocket.send(f"message {number}")
                    assert await websocket.receive() == f"message {number}"
                if time.monotonic() > end:
                    break
                await asyncio.sleep(0.02)
            await websocket.close()

    @contextlib.asynccontextmanager
    async def _timed(self) -> AsyncIterator[None]:
        before = time.monotonic()
        yield
        self.slowest = max(self.slowest, time.monotonic() - before)
        self.answers += 1


def test_every_action_is_taken() -> None:
    written = {
        each
        for name, each in vars(misbehaviour).items()
        if inspect.iscoroutinefunction(each) and name not in ("hear_out", "open_websocket")
    }
    assert written == {*ANYWHERE, *OVER_TLS}


@pytest.mark.timeout(SECONDS + 300)
async def test_nothing_is_left_of_a_mixed_load(certificate: Pair) -> None:
    print(f"\n{SECONDS:g} s, ALPHORN_SOAK_SEED={SEED}")
    with (
        ServerProcess("soak_app:app", *OPTIONS, folder=FOLDER) as clear,
        ServerProcess("soak_app:app", *OPTIONS, folder=FOLDER, certificate=certificate) as secure,
    ):
        subjects = [Subject(clear), Subject(secure)]
        loads = [Load(subject.server.url, f"{SEED}/{subject is subjects[1]}") for subject in subjects]
        # Whatever is made once is made now.
        await asyncio.gather(*(load.run(0, ROUND_SECONDS / 2) for load in loads))
        for subject, held in zip(subjects, await asyncio.gather(*map(at_rest, subjects)), strict=True):
            subject.at_rest = held
        begun = time.monotonic()
        for number in itertools.count(1):
            await asyncio.gather(*(load.run(number, ROUND_SECONDS) for load in loads))
            for subject in subjects:
                await subject.settle()
            print(f"round {number}:", *(f"{subject.memory[-1] >> 10} KiB" for subject in subjects))
            if number >= FEWEST_ROUNDS and time.monotonic() - begun > SECONDS:
                break
        for subject, load in zip(subjects, loads, strict=True):
            report(subject, load)
            assert_memory_stays(subject.memory)
            assert_no_bug_is_logged(subject.server.log)


async def at_rest(subject: Subject) -> dict[str, int]:
    """Return what a server holds when everybody has gone: when that does not change any more."""
    held: dict[str, int] = {}
    for _ in range(10):
        before, held = held, await subject.holdings()
        if before == held:
            break
        await asyncio.sleep(3)  # longer than most deadlines
    return held


def report(subject: Subject, load: Load) -> None:
    """Print what happened."""
    total = sum(load.done.values())
    print(
        f"{subject.server.url}: {total} actions, {load.answers} right answers, slowest {load.slowest:.3f} s"
    )
    print(f"  held at rest: {subject.at_rest}")
    print(f"  memory after each round: {[each >> 10 for each in subject.memory]} KiB")
    print(f"  ended early: {dict(load.odd.most_common())}")


def assert_memory_stays(memory: list[int]) -> None:
    """Hold the last third of the rounds against the one before it."""
    third = max(1, len(memory) // 3)
    middle, last = memory[-2 * third : -third], memory[-third:]
    growth = statistics.median(last) - statistics.median(middle)
    assert growth < ALLOWED_GROWTH, f"memory grows: {[each >> 10 for each in memory]} KiB"


def assert_no_bug_is_logged(log: str) -> None:
    """All that is an error here is an application that returned without an answer."""
    known = re.compile(r"\S+ \S+ (info|warning) |.* /fail: application returned ")
    assert [line for line in log.splitlines() if not known.match(line)] == []
