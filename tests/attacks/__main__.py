"""Attack a server in every way we know and say how it stood it: `make attack`, or

    PYTHONPATH=tests python -P -m attacks [--attack NAME ...] [--peer uvicorn|hypercorn|granian|daphne|gunicorn]

Every attack has a server of its own, with default settings. Attacks whose defence is a deadline wait for it, side by
side; the others come after them. Neighbours take turns, so that no attack disturbs another. A run of all of them against Alphorn writes the table in docs/security.md.
"""

import argparse
import asyncio
import datetime as dt
import importlib.metadata
import platform
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from support.certificates import Pair, authority

from . import footprint, peers
from .attack import Attack
from .catalogue import ATTACKS, BY_NAME
from .neighbour import Latency
from .trial import MEBIBYTE, Arena, Outcome, hold_fairly

PAGE: Final = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- make attack: begin -->\n", "<!-- make attack: end -->\n"
LIBRARIES: Final = ("alphorn", "h11", "h2", "hpack", "wsproto", "websockets", "uvloop")
OTHERS_AT_ONCE: Final = 3
"""One whose neighbour is looked at, and others whose servers start or come to rest."""
HEAD: Final = """\
| attack | over | defence seen | neighbour, ms | attacked | memory, MiB | peak | after | verdict |
|---|---|---|---|---|---|---|---|---|"""


def row(outcome: Outcome) -> str:
    """Return the line of the table about an outcome."""
    attack = outcome.attack
    what = " ".join(
        [f"`{attack.name}`: {attack.what}", *(f"({' '.join(attack.options)})",) * bool(attack.options)]
    )
    memory = [f"{each / MEBIBYTE:.1f}" for each in (outcome.before, outcome.peak, outcome.after)]
    verdict = "; ".join(outcome.faults) or "green"
    cells = [
        what,
        attack.carrier.name,
        outcome.defence,
        _cell(outcome.rest),
        _cell(outcome.attacked),
        *memory,
    ]
    return f"| {' | '.join(cells)} | {verdict} |"


def _cell(latency: Latency) -> str:
    notes = [f"{latency.failed} failed"] * (latency.failed > 0)
    notes += [f"{latency.refused} refused"] * (latency.refused > 0)
    return f"{latency.p99:.1f}" + f" ({', '.join(notes)})" * bool(notes)


async def run(
    attacks: Sequence[Attack], certificate: Pair, peer: peers.Peer | None
) -> AsyncIterator[Outcome]:
    """Hold all trials and yield outcomes as they come: those that wait all together, the others a few at a time."""
    arena = Arena(certificate, peer, max(OTHERS_AT_ONCE, sum(attack.waits for attack in attacks)))
    others = asyncio.Semaphore(OTHERS_AT_ONCE)

    async def hold(attack: Attack) -> Outcome:
        if attack.waits:
            return await hold_fairly(arena, attack)
        async with others:
            return await hold_fairly(arena, attack)

    try:
        for waits in (True, False):
            for trial in asyncio.as_completed([hold(attack) for attack in attacks if attack.waits is waits]):
                yield await trial
    finally:
        arena.close()


async def report(attacks: Sequence[Attack], peer: peers.Peer | None) -> list[Outcome]:
    """Hold all trials and print a row for each."""
    outcomes = []
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        certificate = authority().issue(Path(folder))
        async for outcome in run(attacks, certificate, peer):
            outcomes.append(outcome)
            print(row(outcome), flush=True)
    return outcomes


def write(outcomes: Sequence[Outcome], today: dt.date) -> None:
    """Write the table into docs/security.md, in the order of the catalogue."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    rows = "\n".join(
        row(outcome) for outcome in sorted(outcomes, key=lambda each: ATTACKS.index(each.attack))
    )
    made = f"Written by `make attack` on {today.isoformat()}, with CPython {platform.python_version()} on\n{platform.system()}; {versions}.\n\n{HEAD}\n{rows}\n"
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}", "utf-8")


def main() -> int:
    """Do what the command line says; the exit status is 0 if all is green."""
    parser = argparse.ArgumentParser(prog="python -m attacks")
    parser.add_argument("--attack", choices=sorted(BY_NAME), action="append", metavar="NAME")
    parser.add_argument("--peer", choices=sorted(peers.PEERS))
    arguments = parser.parse_args()
    if not footprint.AVAILABLE:
        parser.error("only Linux tells what another process takes of the computer")
    chosen = [BY_NAME[name] for name in arguments.attack] if arguments.attack else ATTACKS
    peer = peers.PEERS[arguments.peer] if arguments.peer else None
    if peer is not None:
        if not peers.ENVIRONMENT.exists():
            parser.error(f"{peers.ENVIRONMENT} is not there; `make attack PEER={arguments.peer}` makes it")
        chosen = [attack for attack in chosen if peer.can_be(attack)]
    outcomes = asyncio.run(report(chosen, peer))
    if peer is None and not arguments.attack:
        write(outcomes, dt.datetime.now(dt.UTC).date())
    red = [outcome.attack.name for outcome in outcomes if outcome.faults]
    print(f"\n{len(outcomes) - len(red)} of {len(outcomes)} green" + f"; red: {', '.join(red)}" * bool(red))
    return bool(red)


if __name__ == "__main__":
    sys.exit(main())
