"""TLS of a real process: SIGHUP, and passwords on a terminal and in a file."""

import contextlib
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.x509 import load_der_x509_certificate

from alphorn.tls.certificates import certificate_names
from support.certificates import Pair, authority
from support.process import PATIENCE_SECONDS, ServerProcess

APP = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
PASSWORD = "open sesame"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


@pytest.fixture
def encrypted(folder: Path) -> Pair:
    return authority().issue(folder, password=PASSWORD)


def start(folder: Path, *options: str) -> ServerProcess:
    return ServerProcess("shop:app", "--lifespan", "off", *options, folder=folder)


def connect(server: ServerProcess) -> ssl.SSLSocket:
    connection = socket.create_connection(("127.0.0.1", server.port), PATIENCE_SECONDS)
    return authority().client_context("http/1.1").wrap_socket(connection, server_hostname="localhost")


def get(client: ssl.SSLSocket) -> bytes:
    client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    answer = b""
    while not answer.endswith(b"hello"):
        data = client.recv(4096)
        assert data, answer
        answer += data
    return answer


def name_of(client: ssl.SSLSocket) -> str:
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return certificate_names(load_der_x509_certificate(shown))[0]


@pytest.mark.skipif("sys.platform == 'win32'", reason="there is no SIGHUP")
def test_sighup_reads_the_certificates_again_without_dropping_a_connection(folder: Path) -> None:
    certfile, keyfile = folder / "cert.pem", folder / "key.pem"

    def use(name: str) -> None:
        pair = authority().issue(folder, (name, "localhost"))
        Path(pair.certfile).rename(certfile)
        Path(pair.keyfile).rename(keyfile)

    use("old.test")
    with (
        start(folder, "--certfile", str(certfile), "--keyfile", str(keyfile)) as server,
        connect(server) as old,
    ):
        assert name_of(old) == "old.test"
        assert get(old)
        use("new.test")
        server.send_signal(signal.SIGHUP)
        server.wait_for("new certificates are in use: new.test")
        with connect(server) as new:
            assert name_of(new) == "new.test"
            assert get(new)
        assert get(old)
        keyfile.unlink()
        server.send_signal(signal.SIGHUP)
        server.wait_for("the certificates in use stay: --keyfile")
        with connect(server) as new:
            assert name_of(new) == "new.test"


def test_a_password_may_be_in_the_first_line_of_a_file(folder: Path, encrypted: Pair) -> None:
    (folder / "password").write_text(f"{PASSWORD}\nnot this\n")
    options = ("--certfile", encrypted.certfile, "--keyfile", encrypted.keyfile)
    with start(folder, *options, "--keyfile-password-file", "password") as server, connect(server) as client:
        assert get(client)


class Terminal:
    """The command with a terminal to type on, and nothing else."""

    def __init__(self, folder: Path, pair: Pair, *options: str) -> None:
        self._master, slave = os.openpty()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "alphorn", "shop:app", "--port", "0", "--lifespan", "off"),
                *("--certfile", pair.certfile, "--keyfile", pair.keyfile, *options),
            ],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if not name.startswith("SERVE_")},
            stdin=slave,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # or it would ask on the terminal of whoever runs the tests
        )
        os.close(slave)

    def wait_for(self, text: str) -> str:
        """Read what it says, prompt and log, until `text`."""
        assert self.process.stderr is not None
        said = ""
        while text not in said:
            character = self.process.stderr.read(1)
            assert character, f"never said {text!r}: {said}"
            said += character
        return said

    def type(self, line: str) -> None:
        os.write(self._master, line.encode())

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._master)


@pytest.fixture
def terminal(folder: Path, encrypted: Pair) -> Iterator[Terminal]:
    terminal = Terminal(folder, encrypted)
    yield terminal
    terminal.close()


@pytest.mark.skipif("sys.platform == 'win32'", reason="terminals are different there")
class TestOnATerminal:
    def test_the_password_is_asked_for_once_and_before_anything_else(
        self, terminal: Terminal, encrypted: Pair
    ) -> None:
        terminal.wait_for(f"Password of {encrypted.keyfile}: ")
        terminal.type(f"{PASSWORD}\n")
        assert PASSWORD not in terminal.wait_for("listening on https://")
        terminal.process.send_signal(signal.SIGHUP)
        terminal.wait_for("new certificates are in use")  # it has remembered
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.process.wait(PATIENCE_SECONDS) == 0

    def test_it_is_asked_for_once_for_all_workers_and_the_next_supervisor_and_nobody_else_sees_it(
        self, folder: Path, encrypted: Pair
    ) -> None:
        with contextlib.closing(Terminal(folder, encrypted, "--workers", "2")) as terminal:
            terminal.wait_for("Password of ")
            terminal.type(f"{PASSWORD}\n")
            said = terminal.wait_for(") is ready") + terminal.wait_for(") is ready")
            terminal.process.send_signal(signal.SIGUSR2)
            said += terminal.wait_for("has taken over")
            pids = list(map(int, re.findall(r"\(pid (\d+)\)", said)))
            successor = int(re.findall(r"process (\d+) has taken over", said)[0])
            try:
                assert "Password of" not in said
                assert PASSWORD not in said
                for pid in {*pids, successor} if Path("/proc/self/environ").exists() else ():
                    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has drained already
                        for what in ("cmdline", "environ"):
                            assert PASSWORD.encode() not in Path(f"/proc/{pid}/{what}").read_bytes()
            finally:
                os.kill(successor, signal.SIGTERM)
            assert terminal.process.wait(PATIENCE_SECONDS) == 0

    def test_a_wrong_password_is_one_line(self, terminal: Terminal, encrypted: Pair) -> None:
        terminal.wait_for("Password of ")
        terminal.type("wrong\n")
        said = terminal.wait_for("check it\n")
        assert f"Error: --keyfile {encrypted.keyfile}: the password does not open the private key" in said
        assert terminal.process.wait(PATIENCE_SECONDS) == 2

    @pytest.mark.parametrize("end", ["\x04", "\n"], ids=["end of file", "nothing"])
    def test_no_password_is_one_line(self, terminal: Terminal, end: str) -> None:
        terminal.wait_for("Password of ")
        terminal.type(end)
        said = terminal.wait_for("--keyfile-password-file\n")
        assert "Error: " in said
        assert terminal.process.wait(PATIENCE_SECONDS) == 2
