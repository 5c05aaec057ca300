"""What this project asks of itself: the figures that ours are held against, beside the best peer's."""

from dataclasses import dataclass
from typing import Final

from benchmarks.results import Row
from benchmarks.workloads import FIGURES


@dataclass(frozen=True)
class Goal:
    """What has to be reached under one workload.

    Attributes:
        must: The ratio of ours to the best peer's; at the most if less is better, else at the least.
        moonshot: What would be splendid; None if nobody has said.
        figure: Whether both are figures of their own rather than ratios.
    """

    must: float
    moonshot: float | None = None
    figure: bool = False


@dataclass(frozen=True)
class Standing:
    """Ours beside the best peer's, and the goal.

    Attributes:
        mine: Our row.
        best: The best peer's.
        goal: What is asked of us.
    """

    mine: Row
    best: Row
    goal: Goal

    @property
    def ratio(self) -> float:
        """Ours by the peer's."""
        return self.mine.value / self.best.value

    @property
    def reached(self) -> bool:
        """Whether we do what we must."""
        value = self.mine.value if self.goal.figure else self.ratio
        return value <= self.goal.must if self._less_is_better else value >= self.goal.must

    @property
    def times(self) -> float:
        """How many times as good as the best peer we are, whichever way the figure counts."""
        return 1 / self.ratio if self._less_is_better else self.ratio

    @property
    def times_asked(self) -> float:
        """How many times as good as the best peer we must be."""
        must = self.goal.must / self.best.value if self.goal.figure else self.goal.must
        return 1 / must if self._less_is_better else must

    @property
    def _less_is_better(self) -> bool:
        return FIGURES[self.mine.figure].lower_is_better


GOALS: Final = {
    "hello, h1": Goal(0.75),
    "realistic, h1": Goal(0.9, 0.7),
    "hello, h2+tls": Goal(0.6),
    "realistic, h2+tls": Goal(0.8, 0.6),
    "1 in flight, websocket": Goal(1, 1.5),
    "16 in flight, websocket": Goal(1, 1.5),
    "64 KiB, websocket": Goal(1, 1.5),
    "1 in flight, websocket over h2": Goal(3),
    "16 in flight, websocket over h2": Goal(3),
    "64 KiB, websocket over h2": Goal(3),
    "bulk down, h1": Goal(1, 1.3),
    "bulk down, h1+tls": Goal(1, 1.3),
    "bulk down, h2+tls": Goal(1, 1.3),
    "bulk up, h1": Goal(1, 1.3),
    "bulk up, h1+tls": Goal(1, 1.3),
    "bulk up, h2+tls": Goal(1, 1.3),
    "latency, h1": Goal(1),
    "idle, h1": Goal(4, 2.5, figure=True),
    "idle, websocket": Goal(8, 5, figure=True),
}
"""By the workload's key, in the order in which they are shown."""
