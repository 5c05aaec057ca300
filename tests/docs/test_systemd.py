"""The units of the page about systemd: what systemd says of them, and whether their command serves."""

import contextlib
import http.client
import os
import re
import shlex
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.certificates import Pair, authority
from support.pages import ROOT, Page
from support.process import PATIENCE_SECONDS, block_until

PAGE = Page(ROOT / "docs" / "guide" / "systemd.md")
UNITS = {block.text.partition("\n")[0].rpartition("/")[2]: block.text for block in PAGE.blocks("ini")}
APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"the shop"})
"""


def value(unit: str, key: str) -> str:
    (found,) = re.findall(rf"^{key}=(.*)$", UNITS[unit], re.MULTILINE)
    assert isinstance(found, str)
    return found


def test_systemd_finds_no_fault_with_the_units(tmp_path: Path, needs_tool: Callable[[str], str]) -> None:
    analyze = needs_tool("systemd-analyze")
    for name, text in UNITS.items():
        program = value("shop.service", "ExecStart").split()[0]
        (tmp_path / name).write_text(
            text.replace(program, sys.executable).replace("User=shop", "User=daemon")
        )
    files = [str(tmp_path / name) for name in UNITS]
    done = subprocess.run([analyze, "verify", *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "shop" not in done.stderr  # other units of this machine are not ours to judge


def test_the_command_of_the_service_serves_on_the_sockets_of_its_units(
    tmp_path: Path, needs_tool: Callable[[str], str], certificate: Pair
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    for name, file in (("cert.pem", certificate.certfile), ("key.pem", certificate.keyfile)):
        (tmp_path / name).write_bytes(Path(file).read_bytes())
    ports = free_port(), free_port()
    names = [value(unit, "FileDescriptorName") for unit in ("shop.socket", "shop-http.socket")]
    command = [needs_tool("systemd-socket-activate"), f"--fdname={':'.join(names)}"]
    command += [f"--listen=127.0.0.1:{port}" for port in ports]
    command += [f"--setenv=PYTHONPATH={os.environ.get('PYTHONPATH', '')}", sys.executable, "-m", "alphorn"]
    command += shlex.split(value("shop.service", "ExecStart"))[1:]
    with (tmp_path / "log").open("w") as log, subprocess.Popen(command, cwd=tmp_path, stderr=log) as process:
        try:
            assert ask(ports[0], authority().client_context()) == (200, None)
            assert ask(ports[1]) == (308, f"https://localhost:{ports[0]}/")
            process.terminate()
            assert process.wait(PATIENCE_SECONDS) == 0, (tmp_path / "log").read_text()
        finally:
            process.kill()


def ask(port: int, tls: ssl.SSLContext | None = None) -> tuple[int, str | None]:
    """Make a request, as soon as somebody listens, and return status and location of the answer."""
    sockets: list[socket.socket] = []

    def connected() -> bool:
        with contextlib.suppress(ConnectionRefusedError):
            sockets.append(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS))
        return bool(sockets)

    block_until(connected, "somebody to listen")
    (sock,) = sockets
    with contextlib.closing(http.client.HTTPConnection("localhost", port)) as client:
        client.sock = sock if tls is None else tls.wrap_socket(sock, server_hostname="localhost")
        client.request("GET", "/")
        with client.getresponse() as response:
            response.read()
            return response.status, response.getheader("location")


def free_port() -> int:
    """A port that is free, as far as one can tell; systemd-socket-activate knows no port 0."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port
