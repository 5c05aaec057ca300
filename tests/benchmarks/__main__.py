"""Measure our server beside its peers: `make bench`, or

    PYTHONPATH=tests python -P -m benchmarks --quick --work hello --peer granian

It reports; it never judges. docs/performance.md says what the workloads are.
"""

import argparse
import datetime as dt
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import harness, machine
from benchmarks.chart import svg
from benchmarks.report import BEGIN, markdown, write
from benchmarks.results import Run
from benchmarks.servers import PEERS, PEERS_HINT, Server, ours
from benchmarks.workloads import WORKLOADS, Workload
from support.certificates import authority

ROOT = harness.HERE.parents[1]


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Measure Alphorn beside its peers."
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="one round of one second each, without warming up")
    add("--rounds", type=positive, default=5, help="how often each measurement is made (default: 5)")
    add("--seconds", type=positive, default=3, help="how long load lasts, in whole seconds (default: 3)")
    add("--idle", type=positive, default=2000, help="connections that stay open (default: 2000)")
    add("--work", action="append", metavar="NAME", help="only workloads whose name contains this; repeatable")
    add(
        "--peer",
        action="append",
        metavar="NAME",
        help="only peers whose name contains this; repeatable; none: ''",
    )
    add("--engine", action="append", help="our engine; repeatable, the first is compared with the peers")
    add("--environment", type=Path, default=ROOT / ".tools" / "bench", help="the environment of the peers")
    add("--json", type=Path, metavar="FILE", help="write every measurement here")
    add("--table", type=Path, metavar="FILE", help="write the report here, too, as Markdown")
    add("--chart", type=Path, metavar="FILE", help="draw how we stand to our goals here, as SVG")
    add("--page", type=Path, metavar="FILE", help="write how we stand into this page, and draw it beside it")
    return parser


def positive(text: str) -> int:
    """Read a whole number from 1 on."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def main(words: Sequence[str] | None = None) -> int:
    """Run, print the report, write what was asked for; return the exit status."""
    command_line = parser()
    arguments = command_line.parse_args(words)
    for names, parts in (
        ([peer.name for peer in PEERS], arguments.peer),
        ([work.key for work in WORKLOADS], arguments.work),
    ):
        for part in parts or ():
            if not any(part in name for name in names):
                command_line.error(f"nothing is called {part!r}: choose from {'; '.join(names)}")
    if arguments.page and not (arguments.page.exists() and BEGIN in arguments.page.read_text("utf-8")):
        command_line.error(f"{arguments.page} has no line {BEGIN.strip()!r} to write behind")
    if not Path("/proc/self/smaps_rollup").exists():
        print("the benchmark needs Linux: it reads /proc to learn what servers use", file=sys.stderr)
        return 2
    own = [ours(f"--engine {engine}") for engine in arguments.engine or ()] or [ours()]
    run = Run(own[0].name, machine.describe(), {})
    with tempfile.TemporaryDirectory() as folder:
        settings = _settings(arguments, Path(folder))
        servers = [*own, *(peer for peer in PEERS if _wanted(peer.name, arguments.peer))]
        workloads = [work for work in WORKLOADS if _wanted(work.key, arguments.work)]
        servers, workloads = _available(servers, workloads, settings, run)
        run.machine["how"] = (
            f"rounds: {settings.rounds}, of {settings.seconds} s; servers on core {settings.server_core}, "
            f"load on core {settings.load_core}"
        )
        run.versions = _versions(settings, servers)
        try:
            harness.measure_all(
                run, settings, servers, workloads, lambda line: print(line, file=sys.stderr, flush=True)
            )
        except KeyboardInterrupt:
            run.skipped.append("what would have followed: the run was interrupted")
    report = markdown(run)
    print(report)
    for file, text in (
        (arguments.json, run.to_json()),
        (arguments.table, report),
        (arguments.chart, svg(run)),
    ):
        if file:
            file.write_text(text)
    if arguments.page:
        chart = arguments.page.with_suffix(".svg")
        chart.write_text(svg(run))
        write(run, arguments.page, chart, dt.datetime.now(dt.UTC).date())
    return 0


def _settings(arguments: argparse.Namespace, folder: Path) -> harness.Settings:
    cores = sorted(os.sched_getaffinity(0))
    pair = authority().issue(folder)
    quick = arguments.quick
    return harness.Settings(
        python=Path(sys.executable),
        environment=arguments.environment.absolute(),
        folder=folder,
        certfile=pair.certfile,
        keyfile=pair.keyfile,
        seconds=1 if quick else arguments.seconds,
        warm_up_seconds=0 if quick else 1,
        idle_connections=100 if quick else arguments.idle,
        rounds=1 if quick else arguments.rounds,
        server_core=cores[0] if len(cores) > 1 else None,
        load_core=cores[1] if len(cores) > 1 else None,
    )


def _wanted(name: str, parts: Sequence[str] | None) -> bool:
    return parts is None or any(part and part in name for part in parts)


def _available(
    servers: Sequence[Server], workloads: Sequence[Workload], settings: harness.Settings, run: Run
) -> tuple[list[Server], list[Workload]]:
    """Return those that can be run here, and note the others, with how to get them."""
    places = settings.places(0, "http")
    here = []
    for server in servers:
        program = harness.missing(server, places)
        if program:
            run.skipped.append(f"{server.name}: {program} is not there: {server.hint}")
        else:
            here.append(server)
    missing = {
        program
        for workload in workloads
        if shutil.which(program := workload.load.format_map(places).split()[0]) is None
    }
    for program in sorted(missing):
        _, hint = machine.LOAD_GENERATORS.get(Path(program).name, ("", PEERS_HINT))
        run.skipped.append(f"what {program} would do: it is not there: {hint}")
    return here, [work for work in workloads if work.load.format_map(places).split()[0] not in missing]


def _versions(settings: harness.Settings, servers: Sequence[Server]) -> dict[str, str]:
    commands = [server.version for server in servers if server.version]
    commands += [command for command, _ in machine.LOAD_GENERATORS.values()]
    peers = machine.package_versions(settings.environment / "bin" / "python")
    return (
        machine.our_versions()
        | {f"peers' {name}": version for name, version in peers.items()}
        | machine.program_versions(commands)
    )


if __name__ == "__main__":
    sys.exit(main())
