"""A run as Markdown: ours beside the best peer, then every workload in full, then how it was done."""

from collections.abc import Iterator, Sequence

from benchmarks.results import Row, Run
from benchmarks.servers import PEERS
from benchmarks.workloads import FIGURES


def markdown(run: Run) -> str:
    """Return the whole report."""
    return "\n".join([*_summary(run), *_details(run), *_circumstances(run)]) + "\n"


def best(rows: Sequence[Row]) -> Row | None:
    """Return the best of the peers that run an application, or None without any."""
    applications = {server.name for server in PEERS if not server.only}
    peers = [row for row in rows if row.server in applications]
    return ranked(peers)[0] if peers else None


def ranked(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a workload, the best first."""
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
