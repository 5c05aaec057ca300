"""The workloads of the benchmark, as a table, and the figures that are read off them."""

from dataclasses import dataclass
from typing import Final, Literal

from benchmarks.servers import Carrier

FigureName = Literal[
    "cpu_us",
    "per_second",
    "mib_per_second",
    "kib_per_connection",
    "p50_ms",
    "p99_ms",
    "memory_mib",
    "busy_percent",
    "failed",
]
Figures = dict[FigureName, float]
"""What one measurement has given."""


@dataclass(frozen=True)
class Figure:
    """How to read a figure.

    Attributes:
        title: For the heading of a column.
        lower_is_better: Whether a ratio below 1 speaks for us.
    """

    title: str
    lower_is_better: bool


FIGURES: Final[dict[FigureName, Figure]] = {
    "cpu_us": Figure("CPU, µs each", lower_is_better=True),
    "per_second": Figure("per second", lower_is_better=False),
    "mib_per_second": Figure("MiB/s", lower_is_better=False),
    "kib_per_connection": Figure("KiB per connection", lower_is_better=True),
    "p50_ms": Figure("p50, ms", lower_is_better=True),
    "p99_ms": Figure("p99, ms", lower_is_better=True),
    "memory_mib": Figure("memory, MiB", lower_is_better=True),
    "busy_percent": Figure("busy, %", lower_is_better=True),
    "failed": Figure("failed", lower_is_better=True),
}
"""In the order in which tables show them."""


@dataclass(frozen=True)
class Workload:
    """One kind of work.

    Attributes:
        name: The same over every carrier.
        carrier: What it runs over.
        load: The command of the load generator. Placeholders: {url} without a path, {seconds} how long,
            {here} this folder, {folder} a temporary one with the files that are uploaded, {log} a file for
            h2load, {client} before the module of an own client, {bulk} how many big transfers, {idle} how many
            connections stay open.
        figure: By which servers are compared.
        bytes_each: Size of what is transferred each time, for MiB/s.
    """

    name: str
    carrier: Carrier
    load: str
    figure: FigureName = "cpu_us"
    bytes_each: int = 0

    @property
    def key(self) -> str:
        """Name and carrier, which nothing else has."""
        return f"{self.name}, {self.carrier}"


MEBIBYTE: Final = 1024 * 1024
UPLOADS: Final = {"1KiB": 1024, "64KiB": 64 * 1024, "16MiB": 16 * MEBIBYTE}
"""The files in {folder} that h2load sends."""

WRK: Final = "wrk --threads 1 --connections 64 --duration {seconds} --latency"
H2LOAD: Final = "h2load --threads 1 --duration {seconds} --log-file {log}"
H2: Final = f"{H2LOAD} --clients 8 --max-concurrent-streams 32"
# So many rather than so long: what is half done when time is over would not be counted.
BULK: Final = "h2load --threads 1 --requests {bulk} --log-file {log}"
BULK_H1: Final = f"{BULK} --h1 --clients 8"
BULK_H2: Final = f"{BULK} --clients 4 --max-concurrent-streams 2"
WEBSOCKETS: Final = "{client}.websocket_client --connections 32 --seconds {seconds}"

WORKLOADS: Final = (
    Workload("hello", "h1", WRK + " {url}/"),
    Workload("hello", "h2+tls", H2 + " {url}/"),
    Workload("realistic", "h1", WRK + " --script {here}/realistic.lua {url}/"),
    Workload(
        "realistic",
        "h2+tls",
        "{client}.http2_realistic --connections 8 --streams 32 --seconds {seconds} --folder {folder} {url}",
    ),
    Workload("echo 1 KiB", "h1", WRK + " --script {here}/post.lua {url}/echo 1024"),
    Workload("echo 1 KiB", "h2+tls", H2 + " --data {folder}/1KiB {url}/echo"),
    Workload("echo 64 KiB", "h1", WRK + " --script {here}/post.lua {url}/echo 65536"),
    Workload("echo 64 KiB", "h2+tls", H2 + " --data {folder}/64KiB {url}/echo"),
    Workload("100 chunks", "h1", WRK + " {url}/stream"),
    Workload("100 chunks", "h2+tls", H2 + " {url}/stream"),
    Workload("bulk down", "h1", BULK_H1 + " {url}/bulk", "mib_per_second", 10 * MEBIBYTE),
    Workload("bulk down", "h1+tls", BULK_H1 + " {url}/bulk", "mib_per_second", 10 * MEBIBYTE),
    Workload("bulk down", "h2+tls", BULK_H2 + " {url}/bulk", "mib_per_second", 10 * MEBIBYTE),
    Workload(
        "bulk up", "h1", BULK_H1 + " --data {folder}/16MiB {url}/swallow", "mib_per_second", 16 * MEBIBYTE
    ),
    Workload(
        "bulk up", "h1+tls", BULK_H1 + " --data {folder}/16MiB {url}/swallow", "mib_per_second", 16 * MEBIBYTE
    ),
    Workload(
        "bulk up", "h2+tls", BULK_H2 + " --data {folder}/16MiB {url}/swallow", "mib_per_second", 16 * MEBIBYTE
    ),
    Workload("1 in flight", "websocket", WEBSOCKETS + " --in-flight 1 {url}/echo", "per_second"),
    Workload("16 in flight", "websocket", WEBSOCKETS + " --in-flight 16 {url}/echo", "per_second"),
    Workload("64 KiB", "websocket", WEBSOCKETS + " --bytes 65536 {url}/echo", "per_second"),
    Workload(
        "1 in flight", "websocket over h2", WEBSOCKETS + " --http2 --in-flight 1 {url}/echo", "per_second"
    ),
    Workload(
        "16 in flight", "websocket over h2", WEBSOCKETS + " --http2 --in-flight 16 {url}/echo", "per_second"
    ),
    Workload("64 KiB", "websocket over h2", WEBSOCKETS + " --http2 --bytes 65536 {url}/echo", "per_second"),
    Workload("handshake", "h1+tls", "{client}.handshake_client --connections 8 --seconds {seconds} {url}"),
    Workload("latency", "h1", WRK + " {url}/", "p99_ms"),
    Workload("idle", "h1", "{client}.idle_client --connections {idle} {url}", "kib_per_connection"),
    Workload(
        "idle", "websocket", "{client}.idle_client --connections {idle} {url}/echo", "kib_per_connection"
    ),
)
