"""Every attack in a short form: it meets a defence, memory stays bounded, and nothing is left behind.

How long the neighbours have to wait is for `make attack` to say: it needs a computer to itself.
"""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attacks import footprint
from attacks.assault import attack_together
from attacks.attack import Attack, Target
from attacks.catalogue import ATTACKS
from attacks.trial import MAX_GROWTH, MAX_LOG_LINES, remains_of, settle
from support.certificates import Pair
from support.pages import ROOT, Page
from support.process import ServerProcess

HERE = Path(__file__).parent
PATIENCE_SECONDS = 20.0
# Instead of up to a minute, a second, which is a tick of the clock.
HURRY = (
    *("--handshake-timeout", "1", "--head-timeout", "1", "--body-timeout", "1", "--write-timeout", "1"),
    *("--keep-alive-timeout", "1"),
    *("--ws-ping-interval", "1", "--ws-ping-timeout", "1", "--ws-close-timeout", "1"),
)
# How long those are listened to who were thrown out: until then, something of them is left.
IMPATIENCE = ("--linger-timeout", "0.1")
WAITING = [attack for attack in ATTACKS if attack.waits]
OTHERS = [attack for attack in ATTACKS if not attack.waits]

pytestmark = pytest.mark.skipif(not footprint.AVAILABLE, reason="only Linux tells what a process takes")

Start = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def start(certificate: Pair) -> Iterator[Start]:
    """Start a server, or return the one that has been started like this: `start("--port", "0", secure=True)`."""
    started: dict[tuple[bool, tuple[str, ...]], ServerProcess] = {}

    def start(*options: str, secure: bool) -> ServerProcess:
        if (secure, options) not in started:
            pair = certificate if secure else None
            started[secure, options] = ServerProcess(
                "attack_app:app", *options, *IMPATIENCE, folder=HERE, certificate=pair, quiet=True
            )
        return started[secure, options]

    yield start
    for server in started.values():
        assert server.stop() == 0, server.log


async def withstand(server: ServerProcess, *attacks: Attack, secure: bool) -> None:
    """Attack, and hold what happens against what is promised."""
    target = Target(server.port, secure, scale=0.05, patience=PATIENCE_SECONDS)
    remains = await remains_of(target, server)
    lines = server.log.count("\n")
    footprint.forget_peak(server.pid)
    before = footprint.resident(server.pid)

    outcomes = await asyncio.gather(*(attack_together(attack, target) for attack in attacks))

    misses = {attack.name: seen.misses for attack, seen in zip(attacks, outcomes, strict=True) if seen.misses}
    assert not misses, misses
    assert await settle(target, server, remains) == ""
    assert footprint.peak(server.pid) - before < MAX_GROWTH
    assert server.log.count("\n") - lines <= MAX_LOG_LINES, server.log


@pytest.mark.parametrize("secure", [False, True], ids=["clear", "tls"])
async def test_nobody_outstays_a_deadline(start: Start, secure: bool) -> None:
    attacks = [attack for attack in WAITING if attack.carrier.secure is secure]
    await withstand(start(*HURRY, secure=secure), *attacks, secure=secure)


@pytest.mark.parametrize("attack", OTHERS, ids=str)
async def test_an_attack_meets_its_defence_and_leaves_nothing_behind(start: Start, attack: Attack) -> None:
    secure = attack.carrier.secure
    await withstand(start(*attack.options, *attack.short_options, secure=secure), attack, secure=secure)


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_an_attack_and_its_settings_are_in_the_table_of_threats(attack: Attack) -> None:
    page = Page(ROOT / "docs" / "security.md")
    assert attack.name in page.code
    for setting in attack.settings:
        assert f"reference.md#--{setting.replace('_', '-')}" in page.links
