"""What a run has found: measurements, their medians, and ratios of ours to a peer's."""

import dataclasses
import json
import statistics
from dataclasses import dataclass, field

from benchmarks.workloads import FigureName, Figures


@dataclass
class Row:
    """One server under one workload.

    Attributes:
        workload: The workload's key.
        figure: By which it is compared.
        server: The server's name.
        server_command: How it was started; what differs from run to run is in capitals.
        load_command: What put it under load.
        rounds: What each round has given.
    """

    workload: str
    figure: FigureName
    server: str
    server_command: str
    load_command: str
    rounds: list[Figures] = field(default_factory=list)

    @property
    def median(self) -> Figures:
        """The median of the rounds, figure by figure."""
        names = dict.fromkeys(name for figures in self.rounds for name in figures)
        return {
            name: statistics.median(figures[name] for figures in self.rounds if name in figures)
            for name in names
        }

    @property
    def value(self) -> float:
        """The figure by which it is compared."""
        return self.median[self.figure]

    @property
    def spread(self) -> float:
        """How far the rounds are apart: largest less smallest, as a part of the median."""
        values = [figures[self.figure] for figures in self.rounds]
        return (max(values) - min(values)) / self.value if self.value else 0.0


@dataclass
class Run:
    """A whole run.

    Attributes:
        ours: The name of the server that is compared with the others.
        machine: What it ran on, and how, by name.
        versions: Of servers, libraries and load generators, by name.
        skipped: What was left out, and why.
        rows: What was found.
    """

    ours: str
    machine: dict[str, str]
    versions: dict[str, str]
    skipped: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def add(self, row: Row, figures: Figures) -> None:
        """Add what a round has given, to the row that is there already or as the first of this one."""
        known = self.row(row.workload, row.server)
        if known is None:
            self.rows.append(row)
        (known or row).rounds.append(figures)

    def workloads(self) -> dict[str, list[Row]]:
        """Return the rows by workload, in their order."""
        grouped: dict[str, list[Row]] = {}
        for row in self.rows:
            grouped.setdefault(row.workload, []).append(row)
        return grouped

    def row(self, workload: str, server: str) -> Row | None:
        """Return the row of a server under a workload, if there is one."""
        return next((row for row in self.rows if (row.workload, row.server) == (workload, server)), None)

    def ratio(self, peer: Row) -> float | None:
        """Return ours / peer's, or None if we are not there or the peer's is zero."""
        mine = self.row(peer.workload, self.ours)
        return mine.value / peer.value if mine and peer.value else None

    def to_json(self) -> str:
        """Return all of it, every round and the medians."""
        document = dataclasses.asdict(self)
        for written, row in zip(document["rows"], self.rows, strict=True):
            written["median"] = row.median
            written["ratio"] = self.ratio(row)
        return json.dumps(document, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "Run":
        """Return what `to_json` has written."""
        document = json.loads(text)
        names = {each.name for each in dataclasses.fields(Row)}
        rows = [Row(**{name: row[name] for name in names}) for row in document.pop("rows")]
        return cls(**document, rows=rows)
