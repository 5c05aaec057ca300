"""Other servers, for comparison: as they come, with one worker, from the environment of the benchmark."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from support.carrier import HTTP1_CLEAR, HTTP1_TLS, HTTP2_CLEAR, HTTP2_TLS, Carrier
from support.certificates import Pair
from support.process import PATIENCE_SECONDS, block_until

from .attack import Attack

HERE: Final = Path(__file__).parent
ENVIRONMENT: Final = HERE.parents[1] / ".tools" / "bench"
MOST_BYTES: Final = 2 * 1024**3
"""What one process of a peer may hold: an attack can make some take all the memory of the computer."""
HTTP1: Final = (HTTP1_CLEAR, HTTP1_TLS)
HTTP2: Final = (HTTP2_CLEAR, HTTP2_TLS)


@dataclass(frozen=True)
class Peer:
    """A server.

    Attributes:
        command: How to start it; {port} is where.
        clear: What follows without TLS.
        secure: What follows with TLS; {certfile} and {keyfile} are PEM files.
        carriers: What it speaks like this.
        websocket_over_http2: Whether it has that as well.
    """

    command: str
    clear: str = ""
    secure: str = ""
    carriers: tuple[Carrier, ...] = HTTP1
    websocket_over_http2: bool = False

    def can_be(self, attack: Attack) -> bool:
        """Whether an attack can reach it."""
        if attack.websocket and attack.carrier in HTTP2 and not self.websocket_over_http2:
            return False
        return attack.carrier in self.carriers and not attack.options


PEERS: Final = {
    "uvicorn": Peer(
        "uvicorn attack_app:app --port {port}",
        secure="--ssl-certfile {certfile} --ssl-keyfile {keyfile}",
    ),
    "hypercorn": Peer(
        "hypercorn attack_app:app --bind 127.0.0.1:{port}",
        secure="--certfile {certfile} --keyfile {keyfile}",
        carriers=(*HTTP1, *HTTP2),
        websocket_over_http2=True,
    ),
    "granian": Peer(
        "granian attack_app:app --interface asgi --port {port}",
        secure="--ssl-certificate {certfile} --ssl-keyfile {keyfile}",
        carriers=(*HTTP1, *HTTP2),
    ),
    "daphne": Peer(
        "daphne attack_app:app",
        clear="--port {port}",
        secure="--endpoint ssl:port={port}:privateKey={keyfile}:certKey={certfile}:interface=127.0.0.1",
        carriers=(*HTTP1, HTTP2_TLS),
    ),
    "gunicorn": Peer(
        "gunicorn attack_app:app --worker-class asgi --bind 127.0.0.1:{port}",
        secure="--certfile {certfile} --keyfile {keyfile}",
    ),
}


class PeerProcess:
    """A peer that runs.

    Attributes:
        port: Where it listens.
        pid: Of its first process.
    """

    def __init__(self, peer: Peer, certificate: Pair | None) -> None:
        """Start, and wait until it listens.

        Raises:
            AssertionError: It did not.
        """
        self.port = _free_port()
        line = f"{peer.command} {peer.secure if certificate else peer.clear}"
        pair = certificate or Pair("", "")
        command = line.format(port=self.port, certfile=pair.certfile, keyfile=pair.keyfile).split()
        self._process = subprocess.Popen(
            [ENVIRONMENT / "bin" / command[0], *command[1:]],
            cwd=HERE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.pid = self._process.pid
        resource.prlimit(self.pid, resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
        _wait_for(self.port)

    def stop(self) -> int:
        """End it, patiently at first, with all its processes, and return its exit status."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self._process.wait()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            return False
        return True

    block_until(listens, f"somebody to listen on {port}")
