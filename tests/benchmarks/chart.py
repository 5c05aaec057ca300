"""A run as a picture: how many times as good as the best peer we are, and have to be, as SVG.

A bar to the right of the middle is ahead of the best peer, one to the left is behind; each doubling is as wide as the
next. The picture is seen on white and on black, as the reader likes it: its colours are to be read on either.
"""

import math
from collections.abc import Iterator
from html import escape
from typing import Final

from benchmarks.goals import Standing
from benchmarks.report import number, standings
from benchmarks.results import Run
from benchmarks.workloads import FIGURES

WIDTH: Final = 960
NAME_WIDTH: Final = 230
FIGURES_LEFT: Final = 620
MIDDLE: Final = (NAME_WIDTH + FIGURES_LEFT) / 2
DOUBLING: Final = 80.0
DOUBLINGS: Final = 2  # to either side; what goes beyond is cut, and its number says so
TOP: Final = 64
BAR_HEIGHT: Final = 14
STEP: Final = 24
TEXT, AHEAD, BEHIND, GOAL = "#6f7782", "#2f8553", "#c2571a", "#3f78c4"


def svg(run: Run) -> str:
    """Draw the workloads that there is a goal for, as far as they were run."""
    rows = standings(run)
    height = TOP + STEP * len(rows) + 8
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" fill="{TEXT}">',
            "<style>text { font: 13px system-ui, sans-serif } .title { font-weight: 600 }</style>",
            f"<title>{escape(run.ours)} beside the best other server</title>",
            *heading(run, height),
            *(line for index, row in enumerate(rows) for line in drawn(row, TOP + STEP * index)),
            "</svg>\n",
        )
    )


def heading(run: Run, height: int) -> Iterator[str]:
    """Yield the title, the legend, and the lines that the bars are held against."""
    yield (
        f'<text x="0" y="18" class="title">How many times as good as the best other server {escape(run.ours)} is'
        f"</text>"
    )
    yield f'<text x="{FIGURES_LEFT + 60}" y="18">'
    yield f'<tspan fill="{AHEAD}">■</tspan> ahead <tspan fill="{BEHIND}">■</tspan> behind'
    yield f'<tspan fill="{GOAL}" class="title"> ┃</tspan> must be</text>'
    for power in range(-DOUBLINGS, DOUBLINGS + 1):
        x = MIDDLE + power * DOUBLING
        label = f"{2**power}&#215;" if power >= 0 else f"1/{2**-power}"
        yield f'<text x="{x}" y="{TOP - 14}" text-anchor="middle">{label}</text>'
        width = 1.5 if power == 0 else 0.5
        yield f'<path d="M{x} {TOP - 6}V{height - 4}" stroke="{TEXT}" stroke-width="{width}"/>'


def drawn(row: Standing, y: int) -> Iterator[str]:
    """Yield the elements of one workload: its name, the bar, the goal, and both figures."""
    here, asked = place(row.times), place(row.times_asked)
    baseline = y + BAR_HEIGHT - 3
    left, colour = min(MIDDLE, here), AHEAD if row.times >= 1 else BEHIND
    yield f'<text x="0" y="{baseline}">{escape(row.mine.workload)}</text>'
    yield (
        f'<rect x="{left:.1f}" y="{y}" width="{max(abs(here - MIDDLE), 1):.1f}" height="{BAR_HEIGHT}" rx="2" '
        f'fill="{colour}"/>'
    )
    yield f'<path d="M{asked:.1f} {y - 3}v{BAR_HEIGHT + 6}" stroke="{GOAL}" stroke-width="3"/>'
    title = FIGURES[row.mine.figure].title
    yield (
        f'<text x="{FIGURES_LEFT}" y="{baseline}"><tspan class="title">{row.times:.2f}&#215;</tspan> '
        f"{number(row.mine.value)}, {escape(row.best.server.split()[0])} {number(row.best.value)} {escape(title)}</text>"
    )


def place(times: float) -> float:
    """Return where on the scale so many times are."""
    return MIDDLE + max(-DOUBLINGS, min(DOUBLINGS, math.log2(times))) * DOUBLING
