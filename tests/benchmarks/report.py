"""A run as Markdown: ours beside the best peer, then every workload in full, then how it was done.

In the documentation stands what there is a goal for, and how it was done.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.goals import GOALS, Standing
from benchmarks.results import Row, Run
from benchmarks.servers import PEERS
from benchmarks.workloads import FIGURES

BEGIN, END = "<!-- make bench: begin -->\n", "<!-- make bench: end -->\n"
"""What the documentation has around what is written by a run."""


def markdown(run: Run) -> str:
    """Return the whole report."""
    return "\n".join([*_summary(run), *_details(run), *_circumstances(run)]) + "\n"


def write(run: Run, page: Path, chart: Path, today: dt.date) -> None:
    """Write into a page of the documentation, between its two marks, how we stand to our goals.

    Args:
        run: What was measured.
        page: The page.
        chart: The picture of the same, in the folder of the page or below.
        today: When it was.
    """
    before, _, rest = page.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = [
        f"Written by `make bench` on {today.isoformat()}.",
        "",
        f"![{run.ours} beside the best other server]({chart.relative_to(page.parent)})",
        "",
        *_goals(run),
        *_marks(run),
        *_circumstances(run),
    ]
    page.write_text(f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n\n{END}{after}", "utf-8")


def standings(run: Run) -> list[Standing]:
    """Return how we stand to our goals, as far as the workloads were run by us and by a peer."""
    found = []
    workloads = run.workloads()
    for workload, goal in GOALS.items():
        mine, rival = run.row(workload, run.ours), best(workloads.get(workload, ()))
        if mine is not None and rival is not None and mine.value and rival.value:
            found.append(Standing(mine, rival, goal))
    return found


def best(rows: Sequence[Row]) -> Row | None:
    """Return the best of the peers that run an application, or None without any."""
    applications = {server.name for server in PEERS if not server.only}
    peers = [row for row in rows if row.server in applications]
    return ranked(peers)[0] if peers else None


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a workload, the best first."""
    if not rows:
        return []
    return sorted(rows, key=lambda row: row.value, reverse=not FIGURES[rows[0].figure].lower_is_better)


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    return [_line(heading), "|" + "---|" * len(heading), *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _summary(run: Run) -> Iterator[str]:
    rows = []
    for workload, servers in run.workloads().items():
        mine = run.row(workload, run.ours)
        rival = best(servers)
        if mine is None:
            continue
        figure = FIGURES[mine.figure]
        wanted = f"{figure.title} ({'less' if figure.lower_is_better else 'more'} is better)"
        ratio = run.ratio(rival) if rival else None
        rows.append(
            (
                workload,
                wanted,
                number(mine.value),
                f"{number(rival.value)} ({rival.server})" if rival else "",
                "" if ratio is None else f"{ratio:.2f}",
            )
        )
    yield from table(("workload", "figure", run.ours, "best peer", "ratio"), rows)


def _goals(run: Run) -> Iterator[str]:
    rows = []
    for each in standings(run):
        figure, goal = FIGURES[each.mine.figure], each.goal
        sign, unit = "≤" if figure.lower_is_better else "≥", f" {figure.title}" if goal.figure else ""
        rows.append(
            (
                each.mine.workload,
                figure.title,
                number(each.mine.value),
                f"{number(each.best.value)} ({each.best.server})",
                f"{each.ratio:.2f}",
                f"{sign} {goal.must:g}{unit}",
                "" if goal.moonshot is None else f"{sign} {goal.moonshot:g}{unit}",
                "yes" if each.reached else "**no**",
                f"{each.mine.spread:.0%}, {each.best.spread:.0%}",
            )
        )
    heading = (
        "Workload",
        "Figure",
        run.ours,
        "The best other",
        "Ratio",
        "Must",
        "Moonshot",
        "Reached",
        "Spread",
    )
    yield from table(heading, rows)


def _marks(run: Run) -> Iterator[str]:
    """Yield what the servers do that run no application."""
    marks = {server.name for server in PEERS if server.only}
    found = [
        f"{row.server} {number(row.value)} ({workload})"
        for workload, rows in run.workloads().items()
        for row in ranked(rows)
        if row.server in marks
    ]
    if found:
        yield from ("", f"Without an application, in µs of CPU each: {', '.join(found)}.")


def _details(run: Run) -> Iterator[str]:
    for workload, rows in run.workloads().items():
        shown = [name for name in FIGURES if any(name in row.median for row in rows)]
        if not any(row.median.get("failed") for row in rows):
            shown = [name for name in shown if name != "failed"]
        yield from ("", f"### {workload}", "")
        yield from table(
            ("server", *(FIGURES[name].title for name in shown), "spread", "ours / its"),
            [
                (
                    row.server,
                    *(number(row.median[name]) if name in row.median else "" for name in shown),
                    f"{row.spread:.0%}",
                    "" if (ratio := run.ratio(row)) is None else f"{ratio:.2f}",
                )
                for row in ranked(rows)
            ],
        )


def _circumstances(run: Run) -> Iterator[str]:
    yield from ("", "### Machine and versions", "")
    yield from (f"- {name}: {value}" for name, value in run.machine.items())
    yield "- " + ", ".join(f"{name} {version}" for name, version in run.versions.items())
    if run.skipped:
        yield from ("", "### Left out", "")
        yield from (f"- {reason}" for reason in run.skipped)
    yield from ("", "### Commands", "")
    for workload, rows in run.workloads().items():
        yield f"- {workload}: `{rows[0].load_command}`"
    for server, command in dict.fromkeys((row.server, row.server_command) for row in run.rows):
        yield f"- {server}: `{command}`"


def number(value: float) -> str:
    """Return a figure with three significant digits, and whole from 100 on."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
