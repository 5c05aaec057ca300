"""Measure: start a server on one core, put it under load from another, and read what it has used.

A fresh server for each measurement, so that none inherits the memory, or the warmth, of another; and
all servers once in each round, so that what the machine does meanwhile hits all of them alike.
"""

import contextlib
import json
import os
import resource
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks import loads, process_tree
from benchmarks.results import Row, Run
from benchmarks.servers import Server
from benchmarks.workloads import MEBIBYTE, UPLOADS, Figures, Workload

HERE: Final = Path(__file__).resolve().parent
HOST: Final = "127.0.0.1"
PATIENCE_SECONDS: Final = 30.0
"""How long a server may take to serve, and a load generator to end after its time."""


class MeasurementFailed(Exception):  # noqa: N818 - it says what happened
    """A server did not start, or did not do what was asked; the message says which and how."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        python: The interpreter with our server.
        environment: The peers' environment, which our own clients run in as well.
        folder: A temporary one.
        certfile: For TLS.
        keyfile: For TLS.
        seconds: How long load lasts; a whole number, for wrk knows no other.
        warm_up_seconds: How long it lasts before, unmeasured.
        idle_connections: How many stay open to measure their memory.
        rounds: How often each measurement is made.
        server_core: Where servers run; None does not pin them.
        load_core: Where load is made.
    """

    python: Path
    environment: Path
    folder: Path
    certfile: str
    keyfile: str
    seconds: int
    warm_up_seconds: int
    idle_connections: int
    rounds: int
    server_core: int | None
    load_core: int | None

    def places(self, port: int, scheme: str) -> dict[str, str]:
        """Return what stands for the placeholders of commands."""
        return {
            "python": str(self.python),
            "bin": str(self.environment / "bin"),
            "marks": str(HERE / "marks"),
            "here": str(HERE),
            "folder": str(self.folder),
            "certfile": self.certfile,
            "keyfile": self.keyfile,
            "tls": "ssl http2" if scheme == "https" else "",
            "port": str(port),
            "url": f"{scheme}://{HOST}:{port}",
            "log": str(self.folder / "h2load.log"),
            "client": f"{self.environment / 'bin' / 'python'} -m benchmarks",
            "idle": str(self.idle_connections),
            **lasting(self.seconds),
        }


def lasting(seconds: int) -> dict[str, str]:
    """Return the placeholders that say how long load lasts."""
    return {"seconds": str(seconds), "bulk": str(32 * seconds)}


def measure_all(
    run: Run,
    settings: Settings,
    servers: Sequence[Server],
    workloads: Sequence[Workload],
    show: Callable[[str], None],
) -> None:
    """Measure every server under every workload it takes part in, round after round.

    Args:
        run: Gets what is found, and what failed.
        settings: How.
        servers: Which.
        workloads: Which.
        show: Is told what happens.
    """
    _raise_limit_of_files()
    for name, size in UPLOADS.items():
        (settings.folder / name).write_bytes(bytes(size))
    broken: set[tuple[str, str]] = set()
    for number, workload, server in turns(settings.rounds, workloads, servers):
        if (server.name, workload.key) in broken:
            continue
        label = f"round {number} of {settings.rounds}: {workload.key}: {server.name}"
        try:
            row, figures = measure(server, workload, settings)
        except (MeasurementFailed, loads.LoadFailed, OSError, subprocess.SubprocessError) as error:
            broken.add((server.name, workload.key))
            reason, _, _ = str(error).partition("\n")
            run.skipped.append(f"{server.name} failed at {workload.key}: {reason}")
            show(f"{label}: failed: {error}")
            continue
        run.add(row, figures)
        show(f"{label}: {figures[workload.figure]:.1f} {workload.figure}")


def turns(
    rounds: int, workloads: Sequence[Workload], servers: Sequence[Server]
) -> Iterator[tuple[int, Workload, Server]]:
    """Yield whose turn it is: in each round every server under every workload that it takes part in.

    Each round begins with the next server, so that none is always the first.
    """
    for number in range(rounds):
        first = number % len(servers)
        for workload in workloads:
            for server in (*servers[first:], *servers[:first]):
                if workload.carrier in server.carriers and server.only in {"", workload.name}:
                    yield number + 1, workload, server


def measure(server: Server, workload: Workload, settings: Settings) -> tuple[Row, Figures]:
    """Start a server, put it under load, stop it.

    Raises:
        MeasurementFailed: It did not start, or ended under load.
        loads.LoadFailed: Load could not be made.
    """
    port = free_port()
    tls = workload.carrier.endswith("tls")
    scheme = "https" if tls else "ws" if workload.carrier.startswith("websocket") else "http"
    places = settings.places(port, scheme)
    if server.prepare:
        server.prepare(places)
    server_command = server.line(places, tls=tls)
    load_command = workload.load.format_map(places)
    shown = {
        name: value if value.isdecimal() and name != "port" else name.upper()
        for name, value in places.items()
    }
    row = Row(
        workload.key,
        workload.figure,
        server.name,
        server.line(shown, tls=tls),
        workload.load.format_map(shown),
    )
    with started(_pinned(server_command, settings.server_core), settings.folder / "server.log") as process:
        wait_until_serving(process, port, tls=tls)
        if workload.figure == "kib_per_connection":
            return row, _measure_idle(process.pid, load_command, settings)
        if settings.warm_up_seconds:
            _call(workload.load.format_map(places | lasting(settings.warm_up_seconds)), settings)
        figures = _measure_load(process.pid, workload, load_command, settings)
        if process.poll() is not None:
            raise MeasurementFailed(f"the server ended under load with status {process.returncode}")
        return row, figures


def _measure_load(pid: int, workload: Workload, command: str, settings: Settings) -> Figures:
    before = process_tree.cpu_seconds(pid)
    load = _call(command, settings)
    cpu = process_tree.cpu_seconds(pid) - before
    figures: Figures = {
        "cpu_us": cpu / load.requests * 1e6,
        "per_second": load.requests / load.seconds,
        "memory_mib": process_tree.memory_bytes(pid) / MEBIBYTE,
        "busy_percent": cpu / load.seconds * 100,
        "failed": load.failed,
    }
    if workload.bytes_each:
        figures["mib_per_second"] = figures["per_second"] * workload.bytes_each / MEBIBYTE
    if load.p50_ms is not None and load.p99_ms is not None:
        figures |= {"p50_ms": load.p50_ms, "p99_ms": load.p99_ms}
    return figures


def _measure_idle(pid: int, command: str, settings: Settings) -> Figures:
    before = process_tree.memory_bytes(pid, anonymous=True)
    process = subprocess.Popen(
        _pinned(command, settings.load_core),
        cwd=HERE.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        ready = process.stdout.readline()
        after = process_tree.memory_bytes(pid, anonymous=True)
        memory = process_tree.memory_bytes(pid)
        process.stdin.close()
    if not ready:
        raise loads.LoadFailed("the connections could not be opened")
    return {
        "failed": json.loads(ready)["failed"],
        "kib_per_connection": (after - before) / 1024 / settings.idle_connections,
        "memory_mib": memory / MEBIBYTE,
    }


def _call(command: str, settings: Settings) -> loads.Load:
    log = settings.folder / "h2load.log"
    log.unlink(missing_ok=True)  # h2load appends
    try:
        done = subprocess.run(
            _pinned(command, settings.load_core),
            cwd=HERE.parent,
            capture_output=True,
            text=True,
            timeout=settings.seconds + PATIENCE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise loads.LoadFailed(f"the load did not end {PATIENCE_SECONDS:g} s after its time") from error
    if done.returncode != 0:
        raise loads.LoadFailed(f"exit status {done.returncode} of the load\n{done.stdout}{done.stderr}")
    return loads.read(Path(shlex.split(command)[0]).name, done.stdout, log)


@contextlib.contextmanager
def started(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server in a group of its own, and end the group at the end."""
    # The applications are in this folder, and not every server looks into the one it runs in.
    path = os.pathsep.join(filter(None, (str(HERE), os.environ.get("PYTHONPATH"))))
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=HERE,
            env=os.environ | {"PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_until_serving(process: subprocess.Popen[bytes], port: int, *, tls: bool) -> None:
    """Ask until the application has answered a request.

    Raises:
        MeasurementFailed: The server ended, or took too long.
    """
    until = time.monotonic() + PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < until:
        with contextlib.suppress(OSError):
            if _answers(port, tls=tls):
                return
        time.sleep(0.02)
    raise MeasurementFailed(f"{shlex.join(map(str, process.args))}: does not serve")  # type: ignore[arg-type]


def _answers(port: int, *, tls: bool) -> bool:
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(socket.create_connection((HOST, port), timeout=5))
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = stack.enter_context(context.wrap_socket(connection))
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return connection.recv(4096).startswith(b"HTTP/1.1 200")


def free_port() -> int:
    """Return a port that nobody listens on, for servers that cannot say which one the system gave them."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def missing(server: Server, places: Mapping[str, str]) -> str:
    """Return the program that a server needs and that is not here, or nothing."""
    programs = [server.version.split()[0]] if server.version else [server.line(places, tls=False).split()[0]]
    return next((program for program in programs if shutil.which(program) is None), "")


def _pinned(command: str, core: int | None) -> list[str]:
    words = shlex.split(command)
    return words if core is None else ["taskset", "--cpu-list", str(core), *words]


def _raise_limit_of_files() -> None:
    """Let this process and its children have as many connections as the system permits."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
