"""One trial: a server, its neighbour at rest, an attack, the neighbour under it, and what is left at the end.

The server has one core and everybody else another, where there are two. Where we may, the server and the
neighbour have real-time priority, and attackers stand back: the figures are to tell of the server, and not
of what else this computer does.
"""

import asyncio
import contextlib
import math
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, HTTP2_TLS
from support.certificates import Pair
from support.process import ServerProcess
from support.waiting import until

from . import footprint
from .assault import attack_for
from .attack import Attack, Target
from .footprint import Rank
from .neighbour import Latency, Visit, visit
from .peers import Peer, PeerProcess

HERE: Final = Path(__file__).parent
MEBIBYTE: Final = 1024 * 1024

WARM_UP_SECONDS: Final = 0.3
"""What a server does with its first requests, and never again, is no part of its rest."""
REST_SECONDS: Final = 1.2
ATTACKED_SECONDS: Final = 2.0
PATIENCE_SECONDS: Final = 20.0
"""How long what an attacker has left behind may take to go: an answer under way, lingering."""

MAX_GROWTH: Final = 32 * MEBIBYTE
MAX_RATIO: Final = 3.0
LEAST_REST_MS: Final = 1.0
MOST_REST_MS: Final = 3.0
"""What a latency at rest counts at least and at most: less is what schedulers make of it, more is the work of others
who use this computer, and no measure for the server."""
MAX_LOG_LINES: Final = 100
TRIALS: Final = 3
"""So many are held where a neighbour who waits too long is all that is wrong with the first, and the median counts:
others use this computer, too."""
MOST_TRIALS: Final = 9
"""So many are held at most: one whose neighbour waited long before there was an attack says nothing of the attack."""
_NEIGHBOUR: Final = "neighbour"
_POLL_SECONDS: Final = 0.1


class Running(Protocol):
    """A server that runs, ours or a peer."""

    @property
    def port(self) -> int:
        """Where it listens."""

    @property
    def pid(self) -> int:
        """Its first process."""

    def stop(self) -> int:
        """End it."""


@dataclass(frozen=True)
class Outcome:
    """How a trial went.

    Attributes:
        attack: Which.
        defence: What the attackers saw.
        defended: Whether that is one.
        rest: The neighbour's latency before.
        attacked: The same under attack.
        before: Bytes of memory before.
        peak: The most of them.
        after: Those at the end.
        left: What was left behind, in words.
        log_lines: What the error log got.
    """

    attack: Attack
    defence: str
    defended: bool
    rest: Latency
    attacked: Latency
    before: int
    peak: int
    after: int
    left: str
    log_lines: int

    @property
    def lateness(self) -> float:
        """How long the neighbour had to wait, in parts of what it may wait."""
        if self.attacked.failed:
            return math.inf
        rest = min(max(self.rest.p99, LEAST_REST_MS), MOST_REST_MS)
        return self.attacked.p99 / (MAX_RATIO * rest)

    @property
    def disturbed(self) -> bool:
        """Whether others kept the computer busy before the attack began."""
        return self.rest.p99 > MOST_REST_MS

    @property
    def faults(self) -> list[str]:
        """What was wrong; nothing at best."""
        faults = []
        if not self.defended:
            faults.append("no defence")
        if self.lateness > 1 or self.attacked.refused:
            faults.append(_NEIGHBOUR)
        if self.peak - self.before >= MAX_GROWTH:
            faults.append("memory")
        if self.left:
            faults.append(f"left behind: {self.left}")
        if self.log_lines > MAX_LOG_LINES:
            faults.append(f"{self.log_lines} lines in the log")
        return faults


class Arena:
    """Where trials take place: a neighbour and attackers in processes of their own."""

    def __init__(self, certificate: Pair, peer: Peer | None, attackers: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._certificate = certificate
        self._peer = peer
        self._neighbour = ProcessPoolExecutor(1, context, footprint.settle_on, (1, Rank.FIRST))
        self._attackers = ProcessPoolExecutor(attackers, context, footprint.settle_on, (1, Rank.LAST))
        self._neighbour.submit(Latency.of, []).result()  # has it ready when it is wanted
        self._quiet = asyncio.Lock()

    def close(self) -> None:
        """End the processes."""
        self._neighbour.shutdown()
        self._attackers.shutdown()

    async def hold(self, attack: Attack, rank: Rank = Rank.FIRST) -> Outcome:
        """Hold a trial; its latency is measured while no other trial measures.

        Args:
            attack: Which.
            rank: Of the server, while it is measured.
        """
        server = await asyncio.to_thread(self._start, attack)
        try:
            return await self._hold(attack, server, rank)
        finally:
            await asyncio.to_thread(server.stop)

    def _start(self, attack: Attack) -> Running:
        certificate = self._certificate if attack.carrier.secure else None
        server: Running
        if self._peer is not None:
            server = PeerProcess(self._peer, certificate)
        else:
            server = ServerProcess(
                "attack_app:app", *attack.options, folder=HERE, certificate=certificate, quiet=True
            )
        footprint.settle_on(0, Rank.LAST, server.pid)
        return server

    async def _hold(self, attack: Attack, server: Running, rank: Rank) -> Outcome:
        target = Target(server.port, attack.carrier.secure)
        pid = server.pid
        loop = asyncio.get_running_loop()
        async with self._quiet:
            footprint.settle_on(0, rank, pid)
            remains = await remains_of(target, server)
            resting = time.monotonic() + WARM_UP_SECONDS
            before_attack = WARM_UP_SECONDS + REST_SECONDS
            visiting = asyncio.ensure_future(self._visit(target, before_attack + ATTACKED_SECONDS))
            await asyncio.sleep(before_attack)
            footprint.forget_peak(pid)
            before = footprint.resident(pid)
            began = time.monotonic()
            seconds = 0 if attack.waits else ATTACKED_SECONDS
            attacking = loop.run_in_executor(self._attackers, attack_for, attack.name, target, seconds)
            visits = await visiting
            rest = Latency.of([visit for visit in visits if resting <= visit.began < began])
            attacked = Latency.of([visit for visit in visits if visit.began >= began])
            if not attack.waits:
                await attacking
            footprint.settle_on(0, Rank.LAST, pid)
        seen = await attacking
        left = await settle(target, server, remains)
        return Outcome(
            attack=attack,
            defence=seen.defence,
            defended=not seen.misses,
            rest=rest,
            attacked=attacked,
            before=before,
            peak=footprint.peak(pid),
            after=footprint.resident(pid),
            left=left,
            log_lines=server.log.count("\n") if isinstance(server, ServerProcess) else 0,
        )

    async def _visit(self, target: Target, seconds: float) -> list[Visit]:
        """Visit with all that the neighbour speaks."""
        carriers = (HTTP1_TLS, HTTP2_TLS) if target.secure else (HTTP1_CLEAR, HTTP2_CLEAR)
        spoken = [each for each in carriers if self._peer is None or each in self._peer.carriers]
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._neighbour, visit, target, spoken, seconds)


async def remains_of(target: Target, server: Running) -> dict[str, int]:
    """Return how much there is of what an attacker might leave behind."""
    before = footprint.descriptors(server.pid)
    state = await target.ask("/state")
    with contextlib.suppress(AssertionError):  # the first question of all leaves something that stays
        await until(lambda: footprint.descriptors(server.pid) <= before, "its connection to be gone", 0.1)
    return {**state, "descriptors": footprint.descriptors(server.pid)}


async def settle(target: Target, server: Running, before: dict[str, int]) -> str:
    """Wait until nothing is left behind; return what is, in words, when patience is at an end."""
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE_SECONDS
    while True:
        try:
            now = await remains_of(target, server)
        except (AssertionError, OSError, ValueError):
            left = "it does not answer"
        else:
            more = {name: count - before.get(name, 0) for name, count in now.items()}
            left = ", ".join(f"{count} {name}" for name, count in more.items() if count > 0)
        if not left or loop.time() > until:
            return left
        await asyncio.sleep(_POLL_SECONDS)


async def hold_fairly(arena: Arena, attack: Attack) -> Outcome:
    """Hold a trial, or a few and return the median, if it may have been bad luck; see `TRIALS`."""
    first = await arena.hold(attack)
    if first.faults != [_NEIGHBOUR] or first.lateness == math.inf:
        return first
    outcomes, telling = [first], [] if first.disturbed else [first]
    while len(telling) < TRIALS and len(outcomes) < MOST_TRIALS:
        outcomes.append(await arena.hold(attack, Rank.HIGH))
        if not outcomes[-1].disturbed:
            telling.append(outcomes[-1])
    ranked = sorted(telling or outcomes, key=lambda outcome: outcome.lateness)
    return ranked[len(ranked) // 2]
