"""`alphorn ctl`: asks a running server over `--admin-bind`, and prints the answer as a table or as JSON.

It is a client: it knows the paths of core/admin.py and what they answer, and nothing of the server's insides.
"""

import http.client
import json
import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import click

from .core.config import SETTINGS
from .core.errors import ConfigError
from .core.settings import gather
from .core.sockets import TcpBind, UnixBind, parse_admin_bind

_PATIENCE_SECONDS: Final = 10.0
_LOG_LEVELS: Final = next(setting for setting in SETTINGS if setting.name == "log_level").choices
_REQUEST_COLUMNS: Final = ("client", "protocol", "stream", "method", "path", "status", "seconds", "sent")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the file of the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Operator:
    """Asks one server."""

    def __init__(self, address: str, *, as_json: bool) -> None:
        """Prepare to ask.

        Args:
            address: As in `--admin-bind`.
            as_json: Whether to print what the server says as it is.

        Raises:
            ConfigError: It is no address of this machine.
        """
        self.as_json = as_json
        self._address = address
        self._bind = parse_admin_bind(address)

    def ask(
        self,
        method: str,
        path: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = _PATIENCE_SECONDS,
    ) -> Any:
        """Return what the server says in JSON; see `fetch`."""
        return json.loads(self.fetch(method, path, arguments, timeout=timeout))

    def fetch(
        self,
        method: str,
        path: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = _PATIENCE_SECONDS,
    ) -> str:
        """Return what the server says.

        Args:
            method: GET to look, POST to change something.
            path: What it is about.
            arguments: Of a change.
            timeout: What the answer may take, in seconds; None for any time.

        Raises:
            click.ClickException: Nobody answers, or the server refuses.
        """
        connection = self._connect(timeout)
        try:
            connection.request(method, path, json.dumps(arguments) if arguments else None)
            response = connection.getresponse()
            content = response.read().decode("utf-8", "replace").strip()
        except OSError as error:
            raise click.ClickException(
                f"no server answers at {self._address}: {error.strerror or error}; is it the server's --admin-bind?"
            ) from error
        except http.client.HTTPException as error:
            raise click.ClickException(
                f"{self._address} does not speak HTTP; is it the server's --admin-bind?"
            ) from error
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise click.ClickException(content)
        return content

    def _connect(self, timeout: float | None) -> http.client.HTTPConnection:
        match self._bind:
            case UnixBind(path):
                return _UnixConnection(path, timeout)
            case TcpBind(host, port) if host:
                return http.client.HTTPConnection(host, port, timeout=timeout)
        raise AssertionError(self._bind)  # parse_admin_bind takes no other


# --- The command


@click.group(
    "ctl",
    no_args_is_help=False,
    epilog="Exit status: 0, 1 if the server does not answer or refuses, 2 after a mistake in the command.",
)
@click.option(
    "--admin",
    metavar="ADDRESS",
    help="The server's --admin-bind; otherwise the one of SERVE_ADMIN_BIND or of the file, a unix socket first.",
)
@click.option(
    "--config", "config_file", type=click.Path(), metavar="FILE", help="The server's file of settings."
)
@click.option("--json", "as_json", is_flag=True, help="Print what the server answers, for programs.")
@click.pass_context
def command(context: click.Context, admin: str | None, config_file: str | None, as_json: bool) -> None:
    """Ask a server that runs with --admin-bind, or tell it what to do."""
    context.obj = Operator(admin or _configured(config_file), as_json=as_json)


def _configured(config_file: str | None) -> str:
    """Return the address that the settings name.

    Raises:
        ConfigError: They name none.
    """
    binds = gather({}, os.environ, config_file).config.admin_bind
    if not binds:
        raise ConfigError(
            "which server? say `alphorn ctl --admin unix:/PATH ...`, as its --admin-bind, or set SERVE_ADMIN_BIND"
        )
    return next((bind for bind in binds if bind.startswith("unix:")), binds[0])


@command.command()
@click.pass_obj
def status(operator: Operator) -> int:
    """Say how it is; the exit status is 1 unless it is ready."""
    said = operator.ask("GET", "/status")
    if operator.as_json:
        _print_json(said)
    else:
        counters = said["counters"]
        click.echo(
            f"{said['state']}, process {said['pid']}, for {_seconds(said['age'])}, {said['restarts']} workers replaced\n"
        )
        columns = ("worker", "pid", "state", "age", "connections", "in_flight", "queued", "websockets")
        _print_table(columns, [_worker_row(worker) for worker in said["workers"]])
        requests = [
            {"protocol": protocol, "status": status, "requests": count}
            for protocol, statuses in sorted(counters.get("requests", {}).items())
            for status, count in sorted(statuses.items())
            if count
        ]
        if requests:
            click.echo()
            _print_table(("protocol", "status", "requests"), requests)
    return 0 if said["state"] == "ready" else 1


def _worker_row(worker: Mapping[str, Any]) -> dict[str, Any]:
    row = dict(worker) | {"age": _seconds(worker["age"])}
    if "connections" in worker:
        row["connections"] = sum(worker["connections"].values())
    return row


@command.command()
@click.pass_obj
def health(operator: Operator) -> None:
    """Say whether it is alive, be it ready or not: the exit status is 1 unless it answers."""
    said = operator.fetch("GET", "/healthz")
    if operator.as_json:
        _print_json({"health": said})
    else:
        click.echo(said)


@command.command()
@click.pass_obj
def connections(operator: Operator) -> None:
    """List the connections, the oldest first."""
    columns = ("client", "protocol", "tls", "seconds", "requests", "idle", "received", "sent")
    _print_rows(operator, "/connections", columns)


@command.command()
@click.pass_obj
def streams(operator: Operator) -> None:
    """List the requests and WebSockets under way, the oldest first."""
    _print_rows(operator, "/streams", _REQUEST_COLUMNS)


@command.command()
@click.pass_obj
def slow(operator: Operator) -> None:
    """List requests that take longer than a second, then the last that did, and how long ago they ended."""
    _print_rows(operator, "/slow", (*_REQUEST_COLUMNS, "ended"))


@command.command()
@click.pass_obj
def stacks(operator: Operator) -> None:
    """Show where every thread and every task is."""
    said = operator.ask("GET", "/stacks")
    if operator.as_json:
        _print_json(said)
        return
    for worker in said:
        for kind in ("threads", "tasks"):
            for each in worker[kind]:
                click.echo(f"worker {worker['worker']}, {kind[:-1]} {each['name']}\n{each['stack']}")


@command.command()
@click.pass_obj
def reload(operator: Operator) -> None:
    """Do what SIGHUP does: read certificates again, replace workers one by one. Waits until it is done."""
    _print_done(operator, operator.ask("POST", "/reload", timeout=None))


@command.command()
@click.pass_obj
def drain(operator: Operator) -> None:
    """Do what SIGTERM does: let requests finish, then end. Does not wait for that."""
    _print_done(operator, operator.ask("POST", "/drain"))


@command.command("log-level")
@click.argument("level", type=click.Choice(_LOG_LEVELS))
@click.pass_obj
def log_level(operator: Operator, level: str) -> None:
    """Log from LEVEL on, until the next restart."""
    _print_done(operator, operator.ask("POST", "/log-level", {"level": level}))


# --- Printing


def _print_json(said: object) -> None:
    click.echo(json.dumps(said, indent=2))


def _print_done(operator: Operator, said: Mapping[str, Any]) -> None:
    if operator.as_json:
        _print_json(said)
    else:
        click.echo(said["done"])


def _print_rows(operator: Operator, path: str, columns: Sequence[str]) -> None:
    """Print the rows of every worker as one table."""
    said = operator.ask("GET", path)
    if operator.as_json:
        _print_json(said)
        return
    _print_table(
        ("worker", *columns), [{"worker": each["worker"], **row} for each in said for row in each["rows"]]
    )
    left_out = sum(each["left_out"] for each in said)
    if left_out:
        click.echo(f"... and {left_out} more")


def _print_table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Print a table whose columns are as wide as they need to be; numbers stand on the right."""
    lines = [columns, *([_cell(row.get(column)) for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
    numeric = [
        all(line[index][:1].isdigit() or line[index] == "-" for line in lines[1:])
        for index in range(len(columns))
    ]
    for line in lines:
        cells = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _seconds(seconds: float) -> str:
    """Return a time for people, in its two largest units."""
    for size, name, below, parts in ((86400, "d", "h", 3600), (3600, "h", "m", 60), (60, "m", "s", 1)):
        if seconds >= size:
            return f"{seconds // size:.0f}{name} {seconds % size // parts:.0f}{below}"
    return f"{seconds:.0f}s"
