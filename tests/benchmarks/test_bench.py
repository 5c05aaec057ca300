"""The benchmark itself: it runs, and says what it has seen. What it measures is no matter for a test."""

import itertools
import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import wsproto
from hypothesis import given
from hypothesis import strategies as st
from wsproto.events import BytesMessage

from benchmarks import loads, process_tree
from benchmarks.__main__ import main
from benchmarks.chart import svg
from benchmarks.harness import turns
from benchmarks.realistic import requests
from benchmarks.report import markdown
from benchmarks.results import Row, Run
from benchmarks.servers import PEERS
from benchmarks.websocket_wire import MessageCounter, masked
from benchmarks.workloads import WORKLOADS, FigureName

LINUX = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="the benchmark reads /proc")
WRK = """
  Latency Distribution
     50%  525.00us
     99%    7.55ms
  12000 requests in 3.00s, 1.41MB read
  Socket errors: connect 0, read 1, write 0, timeout 2
  Non-2xx or 3xx responses: 4
"""
H2LOAD = """
finished in 2.00s, 50.00 req/s, 500.00MB/s
requests: 100 total, 108 started, 100 done, 90 succeeded, 10 failed, 2 errored, 1 timeout
status codes: 90 2xx, 0 3xx, 3 4xx, 1 5xx
"""


def run_of(figure: FigureName, **values: list[float]) -> Run:
    """A run of one workload; the first server is ours."""
    rows = [
        Row("work, h1", figure, name, f"start {name}", "load", [{figure: value} for value in rounds])
        for name, rounds in values.items()
    ]
    return Run(rows[0].server, {"processor": "abacus"}, {"horn": "1.0"}, ["oboe: is not there"], rows)


@LINUX
def test_it_measures_our_server_and_says_what_is_missing(
    needs_tool: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_tool("wrk")
    report, chart = tmp_path / "run.json", tmp_path / "run.svg"
    words = ["--quick", "--work", "hello, h1", "--peer", "granian", "--environment", str(tmp_path)]
    assert main([*words, "--json", str(report), "--chart", str(chart)]) == 0
    (row,) = json.loads(report.read_text())["rows"]
    assert row["median"]["failed"] == 0
    assert all(row["median"][name] > 0 for name in ("cpu_us", "per_second", "p50_ms", "p99_ms", "memory_mib"))
    assert "app:app --port PORT" in row["server_command"]
    said = capsys.readouterr().out
    assert "granian: " in said
    assert "is not there: `make bench` installs it" in said
    assert "| hello, h1 |" in said
    assert "alphorn" in chart.read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--peer", "granny"], "nothing is called 'granny': choose from uvicorn httptools;"),
        (["--work", "hallo"], "nothing is called 'hallo': choose from hello, h1;"),
        (["--rounds", "0"], "--rounds: invalid positive value: '0'"),
    ],
)
def test_a_name_that_nobody_has_is_refused(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert complaint in capsys.readouterr().err


@LINUX
def test_what_descendants_use_is_counted() -> None:
    burn = "import time\nwhile time.process_time() < 0.2: pass\nprint(flush=True)\nopen(0).read()"
    command = shlex.join([sys.executable, "-c", burn])
    with subprocess.Popen(
        ["sh", "-c", f"{command}; true"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdout.readline()
        assert len(process_tree.tree(shell.pid)) == 2
        assert process_tree.cpu_seconds(shell.pid) >= 0.2 - 0.02  # two counters, in steps of 10 ms each
        whole, anonymous = (process_tree.memory_bytes(shell.pid, anonymous=which) for which in (False, True))
        assert whole > anonymous > 1024 * 1024  # a Python has a few MiB
        shell.stdin.close()


def test_every_round_has_every_server_once_and_begins_with_another() -> None:
    hello = [workload for workload in WORKLOADS if workload.key == "hello, h1"]
    servers = PEERS[:3]
    order = [(number, server.name) for number, _, server in turns(3, hello, servers)]
    assert len(order) == len(set(order)) == 9
    assert [order[index][1] for index in (0, 3, 6)] == [server.name for server in servers]


def test_a_mark_takes_part_in_nothing_but_its_one_workload() -> None:
    nginx = next(server for server in PEERS if server.name == "nginx")
    assert [workload.key for _, workload, _ in turns(1, WORKLOADS, [nginx])] == ["hello, h1", "hello, h2+tls"]


def test_a_ratio_compares_medians() -> None:
    run = run_of("cpu_us", ours=[10, 30, 11], granian=[22, 22, 99])
    assert run.ratio(run.rows[1]) == 0.5
    assert run.rows[0].spread == pytest.approx(20 / 11)


def test_a_ratio_to_nothing_is_none() -> None:
    run = run_of("cpu_us", ours=[1], granian=[0])
    assert run.ratio(run.rows[1]) is None


@pytest.mark.parametrize(("figure", "expected"), [("cpu_us", "granian"), ("per_second", "hypercorn")])
def test_the_best_peer_has_least_of_a_cost_and_most_of_a_rate(figure: FigureName, expected: str) -> None:
    # nginx runs no application: what it does is a mark, no rival.
    report = markdown(run_of(figure, ours=[5], granian=[20], hypercorn=[40], nginx=[1]))
    assert f"({expected})" in report.partition("###")[0]


def test_a_report_says_everything() -> None:
    report = markdown(run_of("cpu_us", ours=[5], granian=[20]))
    for text in (
        "| granian | 20 | 0% | 0.25 |",
        "abacus",
        "horn 1.0",
        "oboe: is not there",
        "`start granian`",
    ):
        assert text in report


def test_a_run_is_read_as_it_was_written() -> None:
    run = run_of("cpu_us", ours=[5, 6], granian=[20])
    assert Run.from_json(run.to_json()) == run


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    picture = ET.fromstring(svg(run_of("cpu_us", ours=[10], granian=[40], daphne=[20]), ["work, h1"]))
    widths = [float(bar.attrib["width"]) for bar in picture.iter("{http://www.w3.org/2000/svg}rect")]
    assert [width / widths[0] for width in widths] == pytest.approx([1, 2, 4], rel=0.01)


def test_what_is_not_charted_leaves_no_room() -> None:
    assert "<rect" not in svg(run_of("cpu_us", ours=[10]), ["other work, h1"])


def test_wrk_is_understood() -> None:
    load = loads.read("wrk", WRK, Path("unused"))
    assert load == loads.Load(requests=12000, seconds=3, failed=7, p50_ms=0.525, p99_ms=7.55)


def test_h2load_is_understood(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"1795346656064162\t200\t{1000 * number}\n" for number in range(100)))
    load = loads.read("h2load", H2LOAD, log)
    assert load == loads.Load(requests=94, seconds=2, failed=7, p50_ms=50, p99_ms=99)
    # 100 done, of which 90 had a good status, 4 a bad one, 2 none: those 4 whose reason phrase is missing are good


@pytest.mark.parametrize("tool", ["wrk", "h2load", "python"])
@pytest.mark.parametrize("output", ["", "unable to connect", '{"requests": 0, "seconds": 1, "failed": 9}'])
def test_a_load_that_did_nothing_is_no_measurement(tool: str, output: str, tmp_path: Path) -> None:
    with pytest.raises(loads.LoadFailed):
        loads.read(tool, output, tmp_path / "log")


@given(st.lists(st.tuples(st.binary(max_size=70_000), st.booleans()), max_size=5), st.integers(1, 70_000))
def test_messages_are_counted_in_any_pieces(messages: list[tuple[bytes, bool]], size: int) -> None:
    server = wsproto.connection.Connection(wsproto.ConnectionType.SERVER)
    wire = b"".join(
        server.send(BytesMessage(data, message_finished=ended)) for data, ended in [*messages, (b"end", True)]
    )
    size = max(size, len(wire) // 1000)
    counter = MessageCounter()
    pieces = (wire[start : start + size] for start in range(0, len(wire), size))
    assert sum(map(counter.feed, pieces)) == sum(ended for _, ended in messages) + 1


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
def test_a_server_reads_the_frame_that_was_made(size: int) -> None:
    message = bytes(number % 251 for number in range(size))
    server = wsproto.connection.Connection(wsproto.ConnectionType.SERVER)
    server.receive_data(masked(message))
    assert (
        b"".join(bytes(event.data) for event in server.events() if isinstance(event, BytesMessage)) == message
    )


def test_realistic_requests_have_a_path_and_an_id_of_their_own() -> None:
    made = [dict(fields) for seed in (0, 1) for fields in itertools.islice(requests(seed), 5000)]
    for name in (":path", "x-request-id"):
        assert len({fields[name] for fields in made}) == len(made), name


def test_nothing_is_measured_twice_under_one_name() -> None:
    assert len({workload.key for workload in WORKLOADS}) == len(WORKLOADS)
    assert len({server.name for server in PEERS}) == len(PEERS)
