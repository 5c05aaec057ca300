"""A service among others: sockets of systemd and what it hears, users, folders, masks, the file with the number."""

import json
import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import pytest

from support.certificates import Pair
from support.process import PATIENCE_SECONDS, ServerProcess, block_until

APP = """
import json, os

def say():
    mask = os.umask(0)
    os.umask(mask)
    return {
        "user": [*os.getresuid(), *os.getresgid(), *os.getgroups()],
        "umask": mask,
        "folder": os.getcwd(),
        "number": os.getpid(),
        "supervisor": os.getppid(),
    }

IMPORTED_BY = os.geteuid()

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    said = say() | {"scheme": scope["scheme"], "imported_by": IMPORTED_BY, "server": scope["server"]}
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(said).encode()})
"""

NOBODY = 65534
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may read, unlike those of pytest; its path is short, for sockets."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "app.py").write_text(APP)
        yield Path(name).resolve()


def ask(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=PATIENCE_SECONDS) as response:
        return json.load(response)


def ask_unix(path: Path) -> Any:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = b""
        while data := client.recv(65536):
            answer += data
    return json.loads(answer.partition(b"\r\n\r\n")[2])


class BoundServer(ServerProcess):
    """A server that is told by `--bind` where to listen."""

    def command(self, app: str, options: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "alphorn", app, *options]


# --- systemd: sockets


@pytest.fixture
def ports() -> list[int]:
    """Ports that are free, as far as one can tell; systemd-socket-activate knows no port 0."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    numbers = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return numbers


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sockets_of_systemd_are_taken_over_by_name(
    folder: Path, ports: list[int], needs_tool: Callable[[str], str], workers: str
) -> None:
    web, other = ports
    command = [needs_tool("systemd-socket-activate"), "--fdname=web:other"]
    command += [f"--listen=127.0.0.1:{port}" for port in ports]
    command += [f"--setenv=PYTHONPATH={os.environ.get('PYTHONPATH', '')}", sys.executable, "-m", "alphorn"]
    command += ["app:app", "--workers", workers, "--bind", "systemd://other"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            read_until(process.stderr, f"Listening on 127.0.0.1:{other} ")
            said = ask(f"http://127.0.0.1:{other}/")  # which starts it, and waits for it
            assert said["server"] == ["127.0.0.1", other]
            assert f"http://127.0.0.1:{other} " in read_until(process.stderr, " listening on ")
            process.terminate()
            rest = process.stderr.read()
            assert process.wait(PATIENCE_SECONDS) == 0, rest
            assert f"http://127.0.0.1:{web} " not in rest
        finally:
            process.kill()


def read_until(stream: IO[str], text: str) -> str:
    """Read up to a line that contains `text`, and return it."""
    read = ""
    while text not in (line := stream.readline()):
        assert line, f"never said {text!r}:\n{read}"
        read += line
    return line


def start_with_descriptors(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Start it with one listening socket as descriptor 3, as systemd does, to see how it fails."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        program = (
            "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.dup2(int(sys.argv[1]), 3); "
            "os.execv(sys.executable, [sys.executable, '-m', 'alphorn', 'app:app', *sys.argv[2:]])"
        )
        os.set_inheritable(listener.fileno(), True)
        return subprocess.run(
            [sys.executable, "-c", program, str(listener.fileno()), *options],
            cwd=folder,
            env=os.environ | {"LISTEN_FDS": "1", "LISTEN_FDNAMES": "web"},
            pass_fds=[listener.fileno()],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--bind", "systemd://nosuch"), "cannot listen on systemd://nosuch: no socket of this name"),
        (("--bind", "systemd://", "--bind", "fd://3"), "two binds name the same socket"),
        (("--bind", "systemd:web"), "write it like 'systemd://'"),
    ],
)
def test_a_mistake_about_sockets_is_one_line(folder: Path, options: tuple[str, ...], complaint: str) -> None:
    done = start_with_descriptors(folder, *options)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr


# --- systemd: how the service is


@pytest.fixture
def notify() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock, tempfile.TemporaryDirectory() as name:
        sock.bind(f"{name}/notify")
        sock.settimeout(PATIENCE_SECONDS)
        yield sock


@pytest.fixture
def told(notify: socket.socket, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Wait until systemd has been told something."""
    monkeypatch.setenv("NOTIFY_SOCKET", notify.getsockname())

    def wait_for(what: str) -> None:
        heard = ""
        while what not in (heard := notify.recv(4096).decode()):
            assert "READY" not in heard, f"not before {what}"

    return wait_for


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_hears_of_the_beginning_a_reload_and_the_end(
    folder: Path, told: Callable[[str], None], certificate: Pair, workers: str
) -> None:
    with ServerProcess("app:app", "--workers", workers, folder=folder, certificate=certificate) as server:
        told("READY=1")
        server.send_signal(signal.SIGHUP)
        told("RELOADING=1\nMONOTONIC_USEC=")
        told("READY=1")
    told("STOPPING=1")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_systemd_hears_that_it_is_alive(
    folder: Path, told: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    with ServerProcess("app:app", "--workers", workers, folder=folder):
        told("READY=1")
        for _ in range(2):
            told("WATCHDOG=1")


class WatchedServer(ServerProcess):
    """A server whose own process systemd wants signs of life of."""

    def command(self, app: str, options: Sequence[str]) -> list[str]:
        become = "import os, sys; os.environ['WATCHDOG_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"
        return [sys.executable, "-c", become, *super().command(app, options)]


def test_the_next_main_process_is_known_and_alive(
    folder: Path,
    notify: socket.socket,
    told: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    (folder / "elsewhere").mkdir()
    options = ("--workers", "2", "--chdir", "..", "--pid-file", "service.pid")
    with WatchedServer("app:app", *options, folder=folder / "elsewhere") as server:
        told("READY=1")
        told("WATCHDOG=1")
        server.send_signal(signal.SIGUSR2)
        while not (heard := notify.recv(4096).decode()).startswith("MAINPID="):
            assert heard in {"WATCHDOG=1", "READY=1\nSTATUS=serving"}
        pid = int(heard.removeprefix("MAINPID="))
        try:
            assert server._process.wait(PATIENCE_SECONDS) == 0  # its log goes on with the next one
            said = ask(server.url)
            assert said["supervisor"] == pid
            assert said["folder"] == str(folder)
            assert (folder / "service.pid").read_text() == f"{pid}\n"
            for _ in range(4):  # more than the one before can have left unread
                assert notify.recv(4096) == b"WATCHDOG=1"
        finally:
            os.kill(pid, signal.SIGTERM)
    told("STOPPING=1")
    block_until(lambda: not (folder / "service.pid").exists(), "the number of the process to be gone")


def test_a_next_main_process_that_does_not_start_leaves_the_number(folder: Path) -> None:
    options = ("--workers", "2", "--pid-file", "service.pid")
    with ServerProcess("app:app", *options, folder=folder) as server:
        server.wait_for("is ready", 2)
        (folder / "app.py").write_text("import nosuch")
        server.send_signal(signal.SIGUSR2)
        server.wait_for("which was to take over, has ended: going on")
        assert (folder / "service.pid").read_text() == f"{server.pid}\n"


def test_the_number_is_that_of_the_one_who_serves_until_the_next_is_ready(folder: Path) -> None:
    options = ("--workers", "2", "--pid-file", "service.pid")
    server = ServerProcess("app:app", *options, folder=folder)
    server.wait_for("is ready", 2)
    source = (folder / "app.py").read_text()
    (folder / "app.py").write_text(
        f"import pathlib, time\nwhile pathlib.Path('slow').exists():\n    time.sleep(0.05)\n{source}"
    )
    (folder / "slow").touch()
    server.send_signal(signal.SIGUSR2)
    server.wait_for("starting 2 workers; the supervisor is process", 2)
    pid = int(server.wait_for("shall take over").split()[5])
    try:
        assert (folder / "service.pid").read_text() == f"{server.pid}\n"
        os.kill(pid, signal.SIGUSR2)
        server.wait_for("SIGUSR2: this process has yet to take over itself")
        (folder / "slow").unlink()
        server.wait_for("has taken over: shutting down")
        assert (folder / "service.pid").read_text() == f"{pid}\n"
    finally:
        os.kill(pid, signal.SIGTERM)
    assert server.wait() == 0


# --- Who it is


@root
def test_it_becomes_another_user_before_the_application_is_imported(folder: Path) -> None:
    with ServerProcess("app:app", "--user", "nobody", "--umask", "027", folder=folder) as server:
        said = ask(server.url)
    assert set(said["user"]) == {NOBODY}
    assert said["imported_by"] == NOBODY
    assert said["umask"] == 0o027


@root
def test_a_file_that_this_user_may_not_read_is_not_served(folder: Path) -> None:
    (folder / "private.txt").write_text("private")
    (folder / "private.txt").chmod(0o600)
    with ServerProcess("app:app", "--user", "nobody", "--static", "/files=.", folder=folder) as server:
        with pytest.raises(urllib.error.HTTPError) as refusal:
            ask(f"{server.url}/files/private.txt")
        refusal.value.close()
        assert refusal.value.code == 403
        assert " error " not in server.log


@root
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_group_may_be_named_by_its_number(folder: Path, workers: str) -> None:
    with ServerProcess("app:app", "--group", "12345", "--workers", workers, folder=folder) as server:
        assert ask(server.url)["user"] == [0, 0, 0, 12345, 12345, 12345, 12345]


@root
def test_ports_and_folders_that_only_root_may_use_are_open_before(folder: Path) -> None:
    (folder / "private").mkdir(mode=0o700)
    binds = ("--bind", "127.0.0.1:0", "--bind", "unix:private/web.sock")
    owner = ("--socket-owner", ":nogroup", "--socket-mode", "660", "--user", "nobody")
    with BoundServer("app:app", *binds, *owner, folder=folder):
        about = (folder / "private" / "web.sock").stat()
        assert stat.S_IMODE(about.st_mode) == 0o660
        assert (about.st_uid, about.st_gid) == (0, NOBODY)
        assert ask_unix(folder / "private" / "web.sock")["imported_by"] == NOBODY


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_folder_is_taken_before_anything_is_looked_up_in_it(folder: Path, workers: str) -> None:
    (folder / "elsewhere").mkdir()
    options = ("--chdir", "..", "--pid-file", "service.pid", "--workers", workers)
    with ServerProcess("app:app", *options, folder=folder / "elsewhere") as server:
        said = ask(server.url)
        assert said["folder"] == str(folder)
        number = int((folder / "service.pid").read_text())
        assert number == server.pid
        assert number == (said["number"] if workers == "1" else said["supervisor"])
    assert not (folder / "service.pid").exists()


def test_a_file_that_another_process_has_written_is_left_alone(folder: Path) -> None:
    file = folder / "service.pid"
    file.write_text("what a killed process has left")
    with ServerProcess("app:app", "--pid-file", str(file), folder=folder) as server:
        assert file.read_text() == f"{server.pid}\n"
        file.write_text("1\n")
    assert file.read_text() == "1\n"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--chdir", "nosuch"), "--chdir nosuch: No such file or directory"),
        (("--pid-file", "nosuch/file"), "nosuch/file: No such file or directory"),
        (("--pid-file", "folder"), "folder: Is a directory"),
        (("--umask", "999"), "--umask: '999' will not do"),
        (("--user", "nosuchuser"), "--user nosuchuser: there is no user nosuchuser"),
        (("--user", "77777"), "--user 77777: there is no user 77777; name a group as well"),
        (("--group", "nosuchgroup"), "--group nosuchgroup: there is no group nosuchgroup"),
        (
            ("--bind", "unix:a.sock", "--socket-owner", "nosuchuser"),
            "--socket-owner nosuchuser: there is no user",
        ),
        (("--bind", "unix:a.sock", "--socket-mode", "rw"), "--socket-mode: 'rw' will not do"),
        (("--port", "0", "--static", "/a=nosuch"), "there is no folder"),
        (("--clear-bind", ":80"), "--clear-bind is of no use without --certfile or --dev-tls"),
    ],
)
def test_a_mistake_of_the_operator_is_one_line(
    folder: Path, options: tuple[str, ...], complaint: str
) -> None:
    (folder / "folder").mkdir()
    command = [sys.executable, "-m", "alphorn", "app:app", *options]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
    )
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1
    assert {file.name for file in folder.iterdir()} <= {"app.py", "folder", "__pycache__"}


# --- In the clear beside TLS


def test_the_same_is_served_in_the_clear_on_addresses_for_it(folder: Path, certificate: Pair) -> None:
    options = ("--clear-bind", "unix:clear.sock")
    with ServerProcess("app:app", *options, folder=folder, certificate=certificate) as server:
        assert server.url.startswith("https://")
        server.wait_for("listening on unix:clear.sock (HTTP/2, HTTP/1.1, WebSocket)")
        assert ask_unix(folder / "clear.sock")["scheme"] == "http"
    assert not (folder / "clear.sock").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such a table, and tells how large it is")
def test_there_is_room_for_the_descriptors_of_all_connections_from_the_start(folder: Path) -> None:
    with ServerProcess("app:app", "--max-connections", "5000", folder=folder) as server:
        status = Path(f"/proc/{server.pid}/status").read_text()
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert int(re.search(r"FDSize:\s+(\d+)", status)[1]) >= min(5000, most)  # type: ignore[index] # it is there
