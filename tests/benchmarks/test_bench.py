"""The benchmark itself: it runs, and says what it has seen. What it measures is no matter for a test."""

import datetime as dt
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
from benchmarks.chart import AHEAD, BEHIND, GOAL, MIDDLE, TEXT, place, svg
from benchmarks.goals import GOALS
from benchmarks.harness import turns
from benchmarks.realistic import requests
from benchmarks.report import BEGIN, END, markdown, standings, write
from benchmarks.results import Row, Run
from benchmarks.servers import PEERS
from benchmarks.websocket_wire import MessageCounter, masked
from benchmarks.workloads import WORKLOADS, FigureName

SVG = "{http://www.w3.org/2000/svg}"
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


def run_of(figure: FigureName, workload: str = "hello, h1", **values: list[float]) -> Run:
    """A run of one workload; the first server is ours."""
    rows = [
        Row(workload, figure, name, f"start {name}", "load", [{figure: value} for value in rounds])
        for name, rounds in values.items()
    ]
    return Run(rows[0].server, {"processor": "abacus"}, {"horn": "1.0"}, ["oboe: is not there"], rows)


@LINUX
def test_it_measures_our_server_and_says_what_is_missing(
    needs_tool: Callable[[str], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_tool("wrk")
    report, chart, page = tmp_path / "run.json", tmp_path / "run.svg", tmp_path / "page.md"
    page.write_text(BEGIN + END, "utf-8")
    words = ["--quick", "--work", "hello, h1", "--peer", "granian", "--environment", str(tmp_path)]
    assert main([*words, "--json", str(report), "--chart", str(chart), "--page", str(page)]) == 0
    (row,) = json.loads(report.read_text())["rows"]
    assert row["median"]["failed"] == 0
    assert all(row["median"][name] > 0 for name in ("cpu_us", "per_second", "p50_ms", "p99_ms", "memory_mib"))
    assert "app:app --port PORT" in row["server_command"]
    said = capsys.readouterr().out
    assert "granian: " in said
    assert "is not there: `make bench` installs it" in said
    assert "| hello, h1 |" in said
    assert "alphorn" in chart.read_text()
    assert page.with_suffix(".svg").read_text() == chart.read_text()
    assert "](page.svg)" in page.read_text("utf-8")


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


@pytest.mark.parametrize(
    ("figure", "ours", "times"), [("cpu_us", 20, 2), ("cpu_us", 56, 0.71), ("per_second", 80, 2)]
)
def test_a_bar_reaches_as_far_as_we_are_ahead_of_the_best_peer(
    figure: FigureName, ours: float, times: float
) -> None:
    picture = ET.fromstring(
        svg(run_of(figure, ours=[ours], granian=[40], gunicorn=[1e6 if figure == "cpu_us" else 1]))
    )
    (bar,) = picture.iter(f"{SVG}rect")
    left, width = float(bar.attrib["x"]), float(bar.attrib["width"])
    ends = (MIDDLE, place(times)) if times > 1 else (place(times), MIDDLE)
    assert (left, left + width) == pytest.approx(ends, abs=1)
    assert bar.attrib["fill"] == (AHEAD if times > 1 else BEHIND)


@pytest.mark.parametrize(
    ("workload", "figure", "asked"),
    [
        ("hello, h1", "cpu_us", 1 / 0.75),
        ("bulk up, h1", "mib_per_second", 1),
        ("idle, h1", "kib_per_connection", 2),
    ],
)
def test_a_line_stands_where_we_have_to_be(workload: str, figure: FigureName, asked: float) -> None:
    picture = ET.fromstring(svg(run_of(figure, workload, ours=[10], granian=[8])))
    (line,) = (path for path in picture.iter(f"{SVG}path") if path.attrib["stroke"] == GOAL)
    x, _, _ = line.attrib["d"].removeprefix("M").partition(" ")
    assert float(x) == pytest.approx(place(asked), abs=0.1)


def test_what_nobody_asks_of_us_is_not_drawn() -> None:
    assert "<rect" not in svg(run_of("cpu_us", "other work, h1", ours=[10], granian=[20]))


@pytest.mark.parametrize("background", ["#ffffff", "#0d1117"])
@pytest.mark.parametrize("colour", [TEXT, AHEAD, BEHIND, GOAL])
def test_colours_can_be_told_from_white_and_from_black(colour: str, background: str) -> None:
    """WCAG 2.2, 1.4.3: text has 4.5 to 1 on plain backgrounds, near enough on two at once; 1.4.11: what is drawn has 3."""
    lighter, darker = sorted((luminance(colour), luminance(background)), reverse=True)
    assert (lighter + 0.05) / (darker + 0.05) >= (4.1 if colour == TEXT else 3)


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2.2."""
    parts = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


# ------------------------------------------------------------------ goals, and the page that shows them


@pytest.mark.parametrize(
    ("workload", "figure", "ours", "reached"),
    [
        ("hello, h1", "cpu_us", 30, True),
        ("hello, h1", "cpu_us", 31, False),
        ("bulk up, h1", "mib_per_second", 40, True),
        ("bulk up, h1", "mib_per_second", 39, False),
        ("idle, h1", "kib_per_connection", 4, True),
        ("idle, h1", "kib_per_connection", 5, False),
    ],
)
def test_a_goal_is_reached_or_not(workload: str, figure: FigureName, ours: float, reached: bool) -> None:
    (standing,) = standings(run_of(figure, workload, ours=[ours], granian=[40]))
    assert standing.reached is reached


def test_every_goal_is_for_a_workload() -> None:
    figures = {workload.key: workload.figure for workload in WORKLOADS}
    assert GOALS.keys() <= figures.keys()


def test_a_page_is_written_between_its_marks_and_again(tmp_path: Path) -> None:
    page, chart = tmp_path / "performance.md", tmp_path / "performance.svg"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n", "utf-8")
    for day in (1, 2):
        write(run_of("cpu_us", ours=[20], granian=[40], nginx=[5]), page, chart, dt.date(2026, 1, day))
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{BEGIN}\nWritten by `make bench` on 2026-01-02.")
    assert text.endswith(f"\n{END}after\n")
    assert "old" not in text
    assert text.count(BEGIN) == 1
    assert "](performance.svg)" in text
    assert "| hello, h1 | CPU, µs each | 20 | 40 (granian) | 0.50 | ≤ 0.75 |  | yes | 0%, 0% |" in text
    assert "nginx 5 (hello, h1)" in text
    for said in ("abacus", "horn 1.0", "`start granian`"):
        assert said in text


def test_a_page_without_marks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing\n", "utf-8")
    with pytest.raises(SystemExit):
        main(["--page", str(page)])
    assert "has no line '<!-- make bench: begin -->'" in capsys.readouterr().err


def test_the_documentation_has_a_place_for_it() -> None:
    page = Path(__file__).parents[2] / "docs" / "performance.md"
    text = page.read_text("utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    ET.fromstring(page.with_suffix(".svg").read_text("utf-8"))


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
