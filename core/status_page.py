"""The status page of `--admin-bind`: numbers for people, in one small document without any other resource.

Invariant: everything in it is escaped, also what is a number as long as nobody changes it.
"""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

_PAGE: Final = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta http-equiv="refresh" content="5">
<meta name="viewport" content="width=device-width">
<title>{state} - Alphorn</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }}
table {{ border-collapse: collapse; margin: 0 0 1.5rem }}
caption {{ text-align: left; font-weight: 600; padding: .3rem 0 }}
th, td {{ text-align: right; padding: .2rem 1.2rem .2rem 0; border-bottom: 1px solid #8884; font-variant-numeric: tabular-nums }}
th {{ font-weight: 400; opacity: .7 }}
th:first-child, td:first-child {{ text-align: left }}
</style>
<h1>{state}</h1>
{tables}
</html>
"""


def status_page(status: Mapping[str, Any]) -> bytes:
    """Return the page.

    Args:
        status: What `/status` says.
    """
    counters = status["counters"]
    tables = [
        _table("Workers", _WORKER_HEADS, [_worker_row(worker) for worker in status["workers"]]),
        _table("Requests", ("protocol", "status", "count"), _pairs(counters.get("requests", {}))),
        _table("Since the start", ("", "count"), _totals(status)),
        _table("Limits hit", ("limit", "count"), sorted(counters.get("limits", {}).items())),
    ]
    return _PAGE.format(state=escape(str(status["state"])), tables="\n".join(tables)).encode()


_WORKER_HEADS: Final = (
    "worker",
    "process",
    "state",
    "age",
    "connections",
    "requests in flight",
    "queued",
    "WebSockets",
)


def _worker_row(worker: Mapping[str, Any]) -> Sequence[object]:
    connections = worker.get("connections")
    return (
        worker["worker"],
        worker["pid"],
        worker["state"],
        f"{worker['age']:.0f} s",
        "no answer" if connections is None else sum(connections.values()),
        worker.get("in_flight", ""),
        worker.get("queued", ""),
        worker.get("websockets", ""),
    )


def _pairs(counts: Mapping[str, Mapping[str, int]]) -> list[Sequence[object]]:
    return [
        (name, inner, count)
        for name, inners in sorted(counts.items())
        for inner, count in sorted(inners.items())
        if count
    ]


def _totals(status: Mapping[str, Any]) -> list[Sequence[object]]:
    counters = status["counters"]
    totals: list[Sequence[object]] = [
        ("bytes received", counters.get("received", 0)),
        ("bytes sent", counters.get("sent", 0)),
        ("WebSockets opened", counters.get("websockets", 0)),
        ("event loop blocked", counters.get("blocked", 0)),
        ("workers replaced", status["restarts"]),
    ]
    for what, key in (
        ("connections", "opened"),
        ("TLS handshakes", "handshakes"),
        ("WebSocket messages", "messages"),
    ):
        totals += [(f"{what}, {name}", count) for name, count in sorted(counters.get(key, {}).items())]
    return totals


def _table(caption: str, heads: Iterable[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table, or nothing where it would have no rows."""
    body = "\n".join(_row("td", row) for row in rows)
    return (
        f"<table>\n<caption>{escape(caption)}</caption>\n{_row('th', heads)}\n{body}\n</table>"
        if body
        else ""
    )


def _row(cell: str, values: Iterable[object]) -> str:
    return "<tr>" + "".join(f"<{cell}>{escape(str(value))}</{cell}>" for value in values) + "</tr>"
