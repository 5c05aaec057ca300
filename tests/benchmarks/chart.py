"""A run as a picture: bars of CPU time per request, one panel per workload, in SVG."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from benchmarks.report import number, ranked
from benchmarks.results import Row, Run
from benchmarks.workloads import FIGURES

WIDTH: Final = 760
NAME_WIDTH: Final = 150
FIGURE_WIDTH: Final = 60
BAR_HEIGHT: Final = 16
STEP: Final = 22
HEADING: Final = 40
OURS, THEIRS, TEXT = "#c2571a", "#8a94a3", "#5b6470"
"""Colours that can be read on white and on black."""


def svg(run: Run, workloads: Sequence[str]) -> str:
    """Draw the workloads of these keys, as far as they were run."""
    lines: list[str] = []
    top = 0
    for workload, rows in run.workloads().items():
        if workload in workloads:
            lines += panel(run, workload, rows, top)
            top += HEADING + STEP * len(rows)
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 10}" fill="{TEXT}">',
            "<style>text { font: 13px system-ui, sans-serif } .title { font-weight: 600 }</style>",
            f"<title>{escape(run.ours)} beside other servers</title>",
            *lines,
            "</svg>\n",
        )
    )


def panel(run: Run, workload: str, rows: Sequence[Row], top: int) -> Iterator[str]:
    """Yield the elements of one workload, whose bars share a scale."""
    figure = FIGURES[rows[0].figure]
    largest = max(row.value for row in rows) or 1.0
    yield (
        f'<text x="0" y="{top + 26}" class="title">{escape(workload)}: {figure.title} '
        f"({'shorter' if figure.lower_is_better else 'longer'} is better)</text>"
    )
    for index, row in enumerate(ranked(rows)):
        y = top + HEADING + STEP * index
        width = max(row.value / largest * (WIDTH - NAME_WIDTH - FIGURE_WIDTH), 1)
        colour = OURS if row.server == run.ours else THEIRS
        baseline = y + BAR_HEIGHT - 4
        yield f'<text x="{NAME_WIDTH - 8}" y="{baseline}" text-anchor="end">{escape(row.server)}</text>'
        yield f'<rect x="{NAME_WIDTH}" y="{y}" width="{width:.1f}" height="{BAR_HEIGHT}" rx="2" fill="{colour}"/>'
        yield f'<text x="{NAME_WIDTH + width + 6:.1f}" y="{baseline}">{number(row.value)}</text>'
