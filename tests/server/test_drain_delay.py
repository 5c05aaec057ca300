"""--drain-delay as a load balancer sees it: readiness goes first, then the port."""

import http.client
import signal
import socket
import time
from pathlib import Path

import pytest

from support.process import PATIENCE_SECONDS, ServerProcess

APP = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for _ in range(2):
            await send({"type": (await receive())["type"] + ".complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""
DELAY_SECONDS = 2.0


def ready(path: str) -> bool:
    """Ask as a load balancer would."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE_SECONDS)
        client.connect(path)
        client.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
        return b" 200 " in client.recv(1000)


def fetch(port: int) -> bytes:
    """Make a request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    connection.request("GET", "/")
    body = connection.getresponse().read()
    connection.close()
    return body


@pytest.mark.parametrize("workers", ["1", "2"])
def test_requests_are_answered_after_readiness_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    monkeypatch.chdir(tmp_path)  # a path that is short enough for every system
    options = ["--workers", workers, "--admin-bind", "unix:admin.sock", "--drain-delay", f"{DELAY_SECONDS}"]
    server = ServerProcess("shop:app", *options, folder=tmp_path, quiet=True)
    assert ready("admin.sock")
    told_at = time.monotonic()
    server.send_signal(signal.SIGTERM)
    server.wait_for("not ready any more; requests are taken for another 2 seconds (--drain-delay)")
    assert not ready("admin.sock")
    assert fetch(server.port) == b"hello"
    assert not ready("admin.sock")
    assert server.wait() == 0, server.log
    assert time.monotonic() - told_at >= DELAY_SECONDS
    with pytest.raises(ConnectionRefusedError):
        fetch(server.port)
