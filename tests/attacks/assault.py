"""Attackers at work: one attack, by as many as it takes, for as long as it takes."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from .attack import Attack, Target, Undefended
from .catalogue import BY_NAME

PAUSE_SECONDS: Final = 0.25
"""How long an attacker who was thrown out needs to come back."""


@dataclass
class Seen:
    """What attackers saw.

    Attributes:
        defences: What the server did, and how often.
        misses: What it failed to do.
    """

    defences: Counter[str] = field(default_factory=Counter)
    misses: list[str] = field(default_factory=list)

    @property
    def defence(self) -> str:
        """The most frequent defence, or what was missed."""
        if self.misses or not self.defences:
            return f"none: {self.misses[0]}" if self.misses else "none"
        return self.defences.most_common(1)[0][0]


def attack_for(name: str, target: Target, seconds: float) -> Seen:
    """Attack in the loop of this process; for a pool of processes.

    Args:
        name: Of the attack.
        target: The server.
        seconds: How long to come back for more; 0 attacks once.
    """
    return asyncio.run(attack_together(BY_NAME[name], target, seconds))


async def attack_together(attack: Attack, target: Target, seconds: float = 0) -> Seen:
    """Attack with all its clients; see `attack_for`."""
    seen = Seen()
    clients = max(1, int(attack.clients * target.scale))
    await asyncio.gather(
        *(_attack_on(attack, target, seconds, seen, number / clients) for number in range(clients))
    )
    return seen


async def _attack_on(attack: Attack, target: Target, seconds: float, seen: Seen, delay: float) -> None:
    await asyncio.sleep(
        delay if attack.waits else 0
    )  # it is about waiting, not about so many handshakes at once
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        try:
            seen.defences[await attack.attempt(target)] += 1
        except Undefended as miss:
            seen.misses.append(str(miss))
        except (AssertionError, OSError, ValueError) as error:
            seen.misses.append(f"the attack failed: {error!r}")
        if loop.time() + PAUSE_SECONDS >= until:
            return
        await asyncio.sleep(PAUSE_SECONDS)
