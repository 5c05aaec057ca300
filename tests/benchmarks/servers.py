"""The servers of the benchmark, as a table: ours, the peers, and outside marks.

All run one worker on uvloop where they can, with their access log off and otherwise as they come.
"""

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

Carrier = Literal["h1", "h1+tls", "h2+tls", "websocket", "websocket over h2"]
"""What a workload runs over; a server lists those it has."""

HTTP1: Final[tuple[Carrier, ...]] = ("h1", "h1+tls")
PEERS_HINT: Final = "`make bench` installs it in .tools/bench"


@dataclass(frozen=True)
class Server:
    """A server.

    Attributes:
        name: As tables show it.
        command: How to start it. Placeholders: {python} is the interpreter that runs us, {bin} the peers'
            environment, {marks} the folder of the same name, {folder} a temporary one, {port} where to listen.
        clear: What follows the command without TLS.
        secure: What follows it with TLS; {certfile} and {keyfile} are PEM files.
        carriers: What it can serve.
        hint: How to get it, if it is missing.
        version: A command that tells its version, if it is no package of Python's.
        only: The one workload it takes part in, if it runs no ASGI application.
        prepare: What has to be done before the command; gets the placeholders.
    """

    name: str
    command: str
    carriers: tuple[Carrier, ...]
    clear: str = ""
    secure: str = ""
    hint: str = PEERS_HINT
    version: str = ""
    only: str = ""
    prepare: Callable[[Mapping[str, str]], None] | None = None

    def line(self, places: Mapping[str, str], *, tls: bool) -> str:
        """Return the command, filled in."""
        return f"{self.command} {self.secure if tls else self.clear}".format_map(places).strip()


def write_nginx_conf(places: Mapping[str, str]) -> None:
    """Fill in the configuration of nginx, which takes no address on its command line."""
    text = (Path(places["marks"]) / "nginx.conf").read_text()
    for name in ("folder", "port", "certfile", "keyfile", "tls"):
        text = text.replace(f"{{{name.upper()}}}", places[name])
    (Path(places["folder"]) / "nginx.conf").write_text(text)


def build_go(places: Mapping[str, str]) -> None:
    """Build the server in Go, once."""
    program = Path(places["folder"]) / "go-mark"
    if not program.exists():
        subprocess.run(["go", "build", "-o", program, Path(places["marks"]) / "main.go"], check=True)


def ours(options: str = "") -> Server:
    """Return our own server.

    Args:
        options: Further flags, which become part of its name.
    """
    return Server(
        name=f"alphorn {options}".rstrip(),
        command=f"{{python}} -m alphorn app:app --port {{port}} --no-access-log {options}".rstrip(),
        secure="--certfile {certfile} --keyfile {keyfile}",
        carriers=(*HTTP1, "h2+tls", "websocket", "websocket over h2"),
    )


UVICORN: Final = "{bin}/uvicorn app:app --port {port} --loop uvloop --no-access-log --log-level warning"

PEERS: Final = (
    Server(
        name="uvicorn httptools",
        command=f"{UVICORN} --http httptools --ws websockets-sansio",
        secure="--ssl-certfile {certfile} --ssl-keyfile {keyfile}",
        carriers=(*HTTP1, "websocket"),
    ),
    Server(
        name="uvicorn zttp",
        command=f"{UVICORN} --http zttp --http2",
        secure="--ssl-certfile {certfile} --ssl-keyfile {keyfile}",
        carriers=(*HTTP1, "h2+tls"),
    ),
    Server(
        name="granian",
        command="{bin}/granian app:app --interface asgi --port {port} --loop uvloop --no-access-log"
        " --log-level warning",
        secure="--ssl-certificate {certfile} --ssl-keyfile {keyfile}",
        carriers=(*HTTP1, "h2+tls", "websocket"),
    ),
    Server(
        name="gunicorn asgi",
        command="{bin}/gunicorn app:app --worker-class asgi --bind 127.0.0.1:{port} --asgi-loop uvloop"
        " --http-protocols h2,h1 --log-level warning",
        secure="--certfile {certfile} --keyfile {keyfile}",
        carriers=(*HTTP1, "h2+tls", "websocket"),
    ),
    Server(
        name="hypercorn",
        command="{bin}/hypercorn app:app --bind 127.0.0.1:{port} --worker-class uvloop --log-level warning",
        secure="--certfile {certfile} --keyfile {keyfile}",
        carriers=(*HTTP1, "h2+tls", "websocket", "websocket over h2"),
    ),
    Server(
        name="daphne",
        command="{bin}/daphne app:app --verbosity 0",
        clear="--port {port}",
        secure="--endpoint ssl:port={port}:privateKey={keyfile}:certKey={certfile}:interface=127.0.0.1",
        carriers=(*HTTP1, "h2+tls", "websocket"),
    ),
    Server(
        name="nginx",
        command="nginx -p {folder} -c {folder}/nginx.conf",
        carriers=("h1", "h2+tls"),
        hint="apt install nginx / brew install nginx",
        version="nginx -v",
        only="hello",
        prepare=write_nginx_conf,
    ),
    Server(
        name="go net/http",
        command="env GOMAXPROCS=1 {folder}/go-mark {port}",
        secure="{certfile} {keyfile}",
        carriers=("h1", "h2+tls"),
        hint="apt install golang-go / brew install go",
        version="go version",
        only="hello",
        prepare=build_go,
    ),
    Server(
        name="node http, http2",
        command="node {marks}/node.mjs {port}",
        secure="{certfile} {keyfile}",
        carriers=("h1", "h2+tls"),
        hint="apt install nodejs / brew install node",
        version="node --version",
        only="hello",
    ),
)
