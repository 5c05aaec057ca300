"""Several workers: real processes, and what becomes of the service when some of them end."""

import asyncio
import contextlib
import http.client
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alphorn.core.clock import Clock
from alphorn.core.control import Channel
from alphorn.worker_process import WorkerProcess
from support.process import PATIENCE_SECONDS, ServerProcess

APP = """
import asyncio, os, time

def say(text):
    os.write(2, text.encode() + b"\\n")  # in one go, unlike print

say(f"imported in {os.getpid()}")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        say("the application shuts down")
        await send({"type": "lifespan.shutdown.complete"})
        return
    path = scope["path"]
    if path == "/block":
        say("blocks")
        time.sleep(1000)
    if path == "/die":
        os._exit(7)
    if path == "/hang":
        say("hangs")
        await asyncio.Event().wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""

pytestmark = pytest.mark.skipif("sys.platform == 'win32'", reason="sockets cannot be handed on there")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


def start(folder: Path, *options: str, workers: int = 2) -> ServerProcess:
    """Start the service, and wait until all of its workers serve."""
    server = ServerProcess("shop:app", "--workers", str(workers), *options, folder=folder, quiet=True)
    server.wait_for("is ready", workers)
    return server


def ready_pids(server: ServerProcess) -> list[int]:
    """The processes of the workers that have said that they are ready, in that order."""
    lines = [line for line in server.log.splitlines() if line.endswith("is ready")]
    return [int(line.rpartition("(pid ")[2].partition(")")[0]) for line in lines]


def fetch(server: ServerProcess, path: str = "/") -> int:
    """Ask on a connection of its own, and return the process that has answered."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as client:
        client.request("GET", path)
        return int(client.getresponse().read())


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def requesting(server: ServerProcess, path: str, said: str) -> Iterator[http.client.HTTPConnection]:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as client:
        client.request("GET", path)
        server.wait_for(said)
        yield client


# --- Starting


def test_every_worker_imports_the_application_and_the_supervisor_does_not(folder: Path) -> None:
    with start(folder, workers=3) as server:
        importers = [int(line.split()[-1]) for line in server.log.splitlines() if "imported in" in line]
        assert sorted(importers) == sorted(ready_pids(server))
        assert server.pid not in importers
        assert fetch(server) in importers


def test_where_it_listens_is_said_once_and_the_port_is_the_same_for_all(folder: Path) -> None:
    with start(folder, workers=3) as server:
        seen = Counter(fetch(server) for _ in range(60))
        assert set(seen) <= set(ready_pids(server))
    assert server.log.count("listening on") == 1


def test_a_unix_socket_is_shared_too_and_removed_at_the_end(folder: Path) -> None:
    path = folder / "app.sock"
    command = [sys.executable, "-m", "alphorn", "--workers", "2", "--bind", f"unix:{path}", "shop:app"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "is ready" not in (line := process.stderr.readline()):
            assert line
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE_SECONDS)
            client.connect(str(path))
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        process.terminate()
        process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 0
    assert not path.exists()


def test_a_failing_startup_is_told_once_with_its_own_status(folder: Path) -> None:
    (folder / "shop.py").write_text("import shopp\n")
    ended = serve(folder, "--workers", "3", "shop:app")
    assert ended.returncode == 2
    assert ended.stderr.count("Traceback") <= 1
    assert ended.stderr.splitlines()[-1].startswith("Error: ")
    assert "shopp" in ended.stderr.splitlines()[-1]


def test_a_refused_startup_is_status_3(folder: Path) -> None:
    (folder / "shop.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n"
    )
    ended = serve(folder, "--workers", "2", "shop:app")
    assert ended.returncode == 3
    assert ended.stderr.splitlines()[-1] == "Error: the application refuses to start: no database"


def test_a_worker_that_dies_while_it_imports_stops_the_start_with_the_reason(folder: Path) -> None:
    (folder / "shop.py").write_text("import os\nos._exit(9)\n")
    ended = serve(folder, "--workers", "2", "shop:app")
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].endswith("has ended with status 9")


def test_the_application_has_to_be_given_by_name(folder: Path) -> None:
    script = (
        "import alphorn\nasync def app(scope, receive, send): pass\nalphorn.run(app, port=0, workers=2)\n"
    )
    ended = run_to_end([sys.executable, "-c", script], folder)
    assert "every worker imports the application itself; give it as 'module:attribute'" in ended.stderr


def test_run_needs_no_guard_in_the_program_that_calls_it(folder: Path) -> None:
    (folder / "program.py").write_text(
        "import alphorn\nprint('the program runs')\nalphorn.run('shop:app', port=0, workers=2)\nprint('it ends')\n"
    )
    with subprocess.Popen(
        [sys.executable, "program.py"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stderr is not None
        while "worker 2" not in (line := program.stderr.readline()):
            assert line
        program.terminate()
        out, _ = program.communicate(timeout=PATIENCE_SECONDS)
    assert out == "the program runs\nit ends\n"


def serve(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_to_end([sys.executable, "-m", "alphorn", "--port", "0", *arguments], folder)


def run_to_end(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )


# --- The end


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=lambda stop: stop.name)
def test_after_a_signal_all_workers_shut_their_application_down(folder: Path, stop: signal.Signals) -> None:
    server = start(folder)
    assert server.stop(stop) == 0
    assert server.log.count("the application shuts down") == 2
    assert "Traceback" not in server.log
    assert not any(map(alive, ready_pids(server)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_signal_for_every_process_is_one_signal(folder: Path, number: signal.Signals) -> None:
    """As Ctrl-C is, or systemd's without KillMode=mixed."""
    server = start(folder)
    for pid in [server.pid, *ready_pids(server)]:
        os.kill(pid, number)
    assert server.wait() == 0
    assert server.log.count("the application shuts down") == 2
    assert "starting another" not in server.log


def test_systemd_which_tells_every_process_to_end_lets_requests_finish(folder: Path) -> None:
    with start(folder, "--graceful-timeout", "2") as server, requesting(server, "/hang", "hangs"):
        for pid in ready_pids(server) * 2:
            os.kill(pid, signal.SIGTERM)
        server.wait_for("after 2 seconds still 1 request (/hang")


def test_a_second_signal_ends_every_process_at_once(folder: Path) -> None:
    server = start(folder)
    pids = ready_pids(server)
    with requesting(server, "/block", "blocks"):
        server.send_signal(signal.SIGTERM)
        server.wait_for("SIGTERM: shutting down")
        server.send_signal(signal.SIGTERM)
        assert server.wait() == -signal.SIGTERM
    server.wait_until(lambda: not any(map(alive, pids)), "the workers to be gone")


@pytest.mark.parametrize("path", ["/hang", "/block"])
def test_workers_end_when_their_supervisor_was_killed_and_nobody_keeps_the_port(
    folder: Path, path: str
) -> None:
    server = start(folder, "--graceful-timeout", "0.5")
    pids = ready_pids(server)
    with requesting(server, path, path.strip("/")):
        os.kill(server.pid, signal.SIGKILL)
        server.wait_until(lambda: not any(map(alive, pids)), "the workers to be gone")
    with socket.create_server(("127.0.0.1", server.port)):
        pass  # the port is free
    assert server.wait() == -signal.SIGKILL
    assert "the supervisor is gone" in server.log


# --- Crashes


def test_a_worker_that_was_killed_is_replaced_and_the_others_serve_meanwhile(folder: Path) -> None:
    with start(folder) as server:
        victim, other = ready_pids(server)
        os.kill(victim, signal.SIGKILL)
        assert {fetch(server) for _ in range(20)} <= {other, *ready_pids(server)[2:]}
        server.wait_for("is ready", 3)
        assert f"(pid {victim}) was ended by SIGKILL (for lack of memory?) after " in server.log


def test_a_worker_that_somebody_else_has_told_to_end_drains_and_is_replaced(folder: Path) -> None:
    with start(folder) as server:
        os.kill(ready_pids(server)[0], signal.SIGTERM)
        server.wait_for("is ready", 3)
        assert "was told to end by somebody else" in server.log


def test_workers_that_crash_again_and_again_stop_the_service_with_the_reason(folder: Path) -> None:
    server = start(folder)
    ended: set[int] = set()

    def given_up() -> bool:
        for pid in set(ready_pids(server)) - ended:
            ended.add(pid)
            os.kill(pid, signal.SIGKILL)
        return "workers end again and again: giving up" in server.log

    server.wait_until(given_up, "the service to give up")
    assert server.wait() == 1
    assert server.log.splitlines()[-1].startswith("Error: worker ")


def test_how_a_worker_has_ended_is_known_even_if_it_is_told_to_at_that_moment() -> None:
    async def end_one(clock: Clock) -> str:
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        process = await asyncio.create_subprocess_exec("sleep", "100")
        channel = await Channel.over(ours)
        worker = WorkerProcess(1, process, channel, write, clock=clock, hang_seconds=0)
        os.kill(worker.pid, signal.SIGKILL)
        for _ in range(200):
            worker.signal(signal.SIGTERM)
        theirs.close()
        os.close(read)
        return await worker.attend(lambda *_: None)

    async def end_many() -> set[str]:
        return {await end_one(Clock()) for _ in range(20)}

    # As the supervisor does, not on uvloop.
    assert asyncio.run(end_many()) == {"was ended by SIGKILL (for lack of memory?)"}


# --- The operator


def test_the_operator_is_answered_by_the_supervisor(folder: Path) -> None:
    with (
        start(folder, "--admin-bind", f"unix:{folder}/admin.sock"),
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(folder / "admin.sock"))
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


# --- Hanging


def test_a_worker_that_hangs_has_its_stack_logged_and_is_replaced(folder: Path) -> None:
    with (
        start(folder, "--hang-timeout", "2") as server,
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)) as client,
    ):
        client.request("GET", "/block")
        server.wait_for("the event loop has not turned for 2 seconds")
        server.wait_for(" hangs; its stacks:")
        server.wait_for('shop.py", line ')
        with pytest.raises((http.client.HTTPException, OSError)):
            client.getresponse()
        server.wait_for("is ready", 3)
        assert "was ended because it hung" in server.log


def test_a_startup_and_a_shutdown_may_block_for_longer(folder: Path) -> None:
    (folder / "shop.py").write_text(
        "import asyncio, time\n"
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    time.sleep(4)\n"  # more than the time and a tick of the clock
        "    await send({'type': 'lifespan.startup.complete'})\n"
        "    await receive()\n"
        "    await asyncio.sleep(1.5)\n"  # the loop turns a little first
        "    time.sleep(4)\n"
        "    await send({'type': 'lifespan.shutdown.complete'})\n"
    )
    with start(folder, "--hang-timeout", "2") as server:
        assert server.stop() == 0
    assert "turned" not in server.log


# --- Recycling


def fetch_until(server: ServerProcess, condition: Callable[[], bool]) -> None:
    """Ask again and again: none of the requests may fail."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, server.log
        fetch(server)


def test_a_worker_is_replaced_after_so_many_requests_and_none_of_them_fails(folder: Path) -> None:
    with start(folder, "--max-requests", "20", workers=1) as server:
        fetch_until(server, lambda: len(ready_pids(server)) == 3)
        assert re.search(r"has begun (19|[2-9]\d|\d{3,}) requests \(--max-requests\)", server.log)
        assert "error" not in server.log


def test_two_workers_are_not_replaced_at_the_same_time(folder: Path) -> None:
    with start(folder, "--max-lifetime", "1", "--graceful-timeout", "1") as server:
        with requesting(server, "/hang", "hangs"):
            server.wait_for("is ready", 5)
        events = re.findall(r"has served for its time|the application shuts down", server.log)
        assert events[:4] == ["has served for its time", "the application shuts down"] * 2


def test_a_worker_with_too_much_memory_is_replaced(folder: Path) -> None:
    (folder / "greedy.py").write_text(
        "from shop import app as inner\n"
        "ballast = []\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        ballast.append(bytes(range(256)) * 2**14)\n"  # 4 MiB
        "    await inner(scope, receive, send)\n"
    )
    server = ServerProcess("greedy:app", "--workers", "1", "--max-rss", "200MiB", folder=folder)
    with server:
        fetch_until(server, lambda: len(ready_pids(server)) == 2)
        assert "(--max-rss): replacing it" in server.log


SLOW_STARTUP = """
import asyncio, pathlib
from shop import app as inner

async def app(scope, receive, send):
    if scope["type"] == "lifespan" and pathlib.Path("slow").exists():
        await asyncio.sleep(2.5)
    await inner(scope, receive, send)
"""


def test_a_startup_that_takes_longer_than_a_worker_may_serve_is_not_part_of_its_time(folder: Path) -> None:
    (folder / "model.py").write_text(SLOW_STARTUP)
    (folder / "slow").touch()
    with ServerProcess("model:app", "--max-lifetime", "1", folder=folder) as server:
        server.wait_for("has served for its time")


def test_a_worn_worker_that_a_restart_replaces_is_not_replaced_twice(folder: Path) -> None:
    (folder / "model.py").write_text(SLOW_STARTUP)
    with ServerProcess("model:app", "--max-lifetime", "2", folder=folder) as server:
        server.wait_for("is ready")
        (folder / "slow").touch()
        server.send_signal(signal.SIGHUP)
        line = server.wait_for("has served for its time")
        _, new = ready_pids(server)
        assert f"(pid {new}) has served" in line


def test_a_worn_worker_stays_while_no_other_starts(folder: Path) -> None:
    with start(folder, "--max-requests", "5", workers=1) as server:
        (folder / "shop.py").write_text("raise RuntimeError('broken meanwhile')\n")
        fetch_until(server, lambda: "stays, for another does not start" in server.log)
        assert fetch(server) == ready_pids(server)[0]


# --- More and fewer


def test_sigttin_starts_a_worker_more_and_sigttou_ends_one_but_not_the_last(folder: Path) -> None:
    with start(folder) as server:
        server.send_signal(signal.SIGTTIN)
        server.wait_for("worker 3 (pid ")
        for number in (3, 2):
            server.send_signal(signal.SIGTTOU)
            server.wait_for(f"SIGTTOU: ending worker {number}")
        server.wait_for("the application shuts down", 2)
        server.send_signal(signal.SIGTTOU)
        server.wait_for("SIGTTOU: the last worker stays")
        assert fetch(server) in ready_pids(server)


# --- TLS


def test_a_development_certificate_and_redirects_are_the_same_for_all_workers(folder: Path) -> None:
    (folder / "certs").mkdir()
    with start(folder, "--dev-tls", "--redirect-bind", "127.0.0.1:0") as server:
        assert server.log.count("development certificate; trust its CA") == 1
        assert server.log.count("(redirects to https)") == 1
        found = re.search(r"http://127.0.0.1:(\d+) \(redirects", server.log)
        assert found
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=20)) as client:
            client.request("GET", "/", headers={"host": f"localhost:{found[1]}"})
            assert client.getresponse().getheader("location") == f"https://localhost:{server.port}/"


# --- New code


def test_a_folder_that_is_missing_for_a_while_does_not_end_the_service(folder: Path) -> None:
    release, elsewhere = folder / "release", folder / "elsewhere"
    release.mkdir()
    (folder / "shop.py").rename(release / "shop.py")
    with start(folder, "--chdir", "release") as server:
        release.rename(elsewhere)
        server.send_signal(signal.SIGHUP)
        server.wait_for(
            "the rolling restart is given up at worker 1, and the workers that serve stay: worker 1 cannot"
        )
        first, second = ready_pids(server)
        os.kill(first, signal.SIGKILL)
        line = server.wait_for("does not start")
        assert f"cannot be started: No such file or directory: {release}" in line
        assert fetch(server) == second
        elsewhere.rename(release)
        server.wait_for("is ready", 3)


def test_code_that_does_not_start_is_shown_with_its_traceback_and_the_next_restart_takes_what_was_mended(
    folder: Path,
) -> None:
    with start(folder) as server:
        (folder / "shop.py").write_text("def broken():\n    raise RuntimeError('oh')\nbroken()\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for("the rolling restart is given up at worker 1")
        assert server.log.count("RuntimeError: oh") == 1
        assert fetch(server) in ready_pids(server)
        (folder / "shop.py").write_text(APP)
        server.send_signal(signal.SIGHUP)
        server.wait_for("2 workers were replaced")
        assert fetch(server) in ready_pids(server)[2:]


def test_a_restart_that_hangs_is_given_up_when_somebody_ends_the_process_that_another_sighup_names(
    folder: Path,
) -> None:
    with start(folder, workers=2) as server:
        source = (folder / "shop.py").read_text()
        (folder / "shop.py").write_text(
            "import sys, time\nprint('hangs', file=sys.stderr, flush=True)\ntime.sleep(1000)"
        )
        server.send_signal(signal.SIGHUP)
        server.wait_for("hangs")
        (folder / "shop.py").write_text(source)
        server.send_signal(signal.SIGHUP)
        line = server.wait_for("SIGHUP: once more after the restart under way; starting: worker 1 (pid ")
        assert fetch(server) in ready_pids(server)
        os.kill(int(re.findall(r"\(pid (\d+)\) for \d+ s", line)[0]), signal.SIGKILL)
        server.wait_for("the rolling restart is given up at worker 1")
        server.wait_for("2 workers were replaced")


def test_a_failing_shutdown_of_a_worker_is_status_4(folder: Path) -> None:
    (folder / "shop.py").write_text(
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.complete'})\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.shutdown.failed', 'message': 'disk full'})\n"
    )
    server = start(folder)
    assert server.stop() == 4
    assert server.log.splitlines()[-1] == "Error: the application's shutdown failed"


@pytest.mark.parametrize(
    "waiting", ["await asyncio.sleep(1000)", "time.sleep(1000)"], ids=["waits", "blocks"]
)
def test_a_long_startup_ends_with_the_first_signal_or_if_it_blocks_with_the_second(
    folder: Path, waiting: str
) -> None:
    (folder / "shop.py").write_text(
        "import asyncio, os, time\n"
        "async def app(scope, receive, send):\n"
        "    os.write(2, b'loading the model\\n')  # print() writes the end of a line apart, behind another's\n"
        f"    {waiting}\n"
    )
    command = [sys.executable, "-m", "alphorn", "--port", "0", "--workers", "2", "shop:app"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for _ in range(2):
            while "loading the model" not in (line := process.stderr.readline()):
                assert line
        process.terminate()
        while "SIGTERM: shutting down" not in (line := process.stderr.readline()):
            assert line
        if waiting.startswith("time"):
            process.terminate()
        log = process.stderr.read()  # until the workers have ended, too
    assert process.returncode == (-signal.SIGTERM if waiting.startswith("time") else 0), log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_terminal_that_is_closed_ends_the_service(folder: Path, workers: str) -> None:
    terminal, stdin = os.openpty()
    command = [sys.executable, "-m", "alphorn", "--port", "0", "--workers", workers, "shop:app"]
    with subprocess.Popen(command, cwd=folder, stdin=stdin, stderr=subprocess.PIPE, text=True) as process:
        os.close(stdin)
        assert process.stderr is not None
        while "listening on" not in (line := process.stderr.readline()):
            assert line
        os.close(terminal)
        process.send_signal(signal.SIGHUP)
        log = process.stderr.read()
    assert process.returncode == 0
    assert "SIGHUP, for the terminal is gone: shutting down" in log
    assert "the application shuts down" in log


@pytest.mark.parametrize("workers", ["1", "2"])
def test_garbage_collections_leave_out_what_was_there_at_the_start(folder: Path, workers: str) -> None:
    (folder / "shop.py").write_text(APP.replace("os.getpid()}", "__import__('gc').get_freeze_count()}"))
    with ServerProcess("shop:app", "--workers", workers, folder=folder) as server:
        assert fetch(server) > 10_000


READS = """
import resource

def faults_of_reads():
    for _ in range(20):
        reads = [bytearray(b"x") * 256_000 for _ in range(16)]
    del reads
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

async def app(scope, receive, send):
    first = faults_of_reads()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % (faults_of_reads() - first)})
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others may give back what is freed")
def test_the_memory_of_uploads_is_used_again_rather_than_given_back(folder: Path) -> None:
    (folder / "shop.py").write_text(READS)
    with ServerProcess("shop:app", "--lifespan", "off", folder=folder) as server:
        # Once for each page, of which there are a thousand, would be 20,000.
        assert fetch(server) < 2000
