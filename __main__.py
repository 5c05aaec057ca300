"""The command: `serve`, `alphorn` and `python -m alphorn`; with `ctl` as its first word, that of ctl.py.

Options are generated from the schema in core/config.py. The server and everything heavy is imported
only when there is something to serve: `serve --help` and a completion in the shell must be quick.
Whatever the operator did wrong is one line on stderr and exit status 2.
"""

import os
import sys
from typing import Any

import click

from . import __version__
from .core.build import COMPILED
from .core.config import SETTINGS, Config
from .core.errors import AlphornError, ConfigError
from .core.schema import Setting
from .core.settings import APP, as_toml, gather

DEMO = "alphorn.demo:app"


class SettingOption(click.Option):
    """The flag of one setting. Values are taken as they are; core/settings.py judges them."""

    def __init__(self, setting: Setting) -> None:
        self.section = setting.section
        names = [setting.short, setting.flag] if setting.short else [setting.flag]
        details: dict[str, Any] = {"metavar": setting.metavar, "multiple": setting.kind is tuple}
        if setting.kind is bool:
            names, details = [f"{setting.flag}/--no-{setting.key}"], {}
        elif setting.unit in ("file", "folder"):
            details["type"] = click.Path(file_okay=setting.unit == "file")  # for the shell's completion
        elif setting.choices:
            details["shell_complete"] = lambda _context, _option, start: [
                choice for choice in setting.choices if choice.startswith(start)
            ]
        default = f"  [default: {setting.default_text}]" if setting.default_text else ""
        super().__init__([*names, setting.name], default=None, help=setting.doc + default, **details)


class ServeCommand(click.Command):
    """A command whose `--help` lists the options under their sections."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those of the command itself last."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if record:
                sections.setdefault(getattr(option, "section", "Command"), []).append(record)
        for section, records in sections.items():
            with formatter.section(section):
                formatter.write_dl(records)


@click.command(
    "serve",
    cls=ServeCommand,
    params=[click.Argument([APP.name], required=False, metavar="APP"), *map(SettingOption, SETTINGS)],
    epilog="Sizes may be written like 64KiB or 16MiB, times like 500ms, 30s or 5m. Every option is also "
    "a variable (--log-level: SERVE_LOG_LEVEL) and a key in TOML (log-level), in the file named by "
    "--config or in [tool.serve] of ./pyproject.toml. A flag is stronger than a variable, a variable "
    "than a file. `alphorn ctl --help` tells how to ask a server that runs.",
)
@click.option(
    "--config",
    "config_file",
    type=click.Path(),
    metavar="FILE",
    help="Read settings from this TOML file (variable: SERVE_CONFIG).",
)
@click.option("--demo", is_flag=True, help="Serve the demonstration that comes with Alphorn instead of APP.")
@click.option(
    "--print-config", is_flag=True, help="Print the effective settings and their origins, and exit."
)
@click.version_option(
    __version__,
    message="alphorn %(version)s (compiled)" if COMPILED else "alphorn %(version)s",
    help="Print the version and exit.",
)
def command(
    config_file: str | None, demo: bool, print_config: bool, **flags: Any
) -> tuple[str, Config] | None:
    """Serve APP, an ASGI or WSGI application given as MODULE:ATTRIBUTE, over HTTP/1.1, HTTP/2 and WebSocket."""
    if demo:
        if flags[APP.name] is not None:
            raise ConfigError("--demo serves an application of its own: drop --demo or APP")
        # What the file or the environment say about their application is not true of this one.
        flags |= {APP.name: DEMO, "factory": False, "interface": "auto"}
    settings = gather(flags, os.environ, config_file)
    if print_config:
        click.echo(as_toml(settings), nl=False)
        return None
    if settings.app is None:
        raise ConfigError(
            "no application to serve: name one, such as `serve module:app`, or try `serve --demo`"
        )
    return settings.app, settings.config


def main() -> int:
    """Run the command with the arguments of this process.

    Returns:
        The exit status: 0, 1 if threads of the application had to be left running or workers end again and
        again, 2 after a mistake of the operator, 3 if the application did not start, 4 if it did not shut down
        properly. Of `ctl`: 0, 1 if the server does not answer, refuses or is not ready, 2 likewise.
    """
    try:
        if sys.argv[1:2] == ["ctl"]:  # no application: that is MODULE:ATTRIBUTE
            from .ctl import command as ctl  # noqa: PLC0415

            return int(ctl.main(sys.argv[2:], "alphorn ctl", standalone_mode=False) or 0)
        chosen = command.main(standalone_mode=False)
        if isinstance(chosen, tuple):  # not after --help and the like
            from .core.process import ENDING_SECONDS, Ending  # noqa: PLC0415 - see the module docstring
            from .workers import run  # noqa: PLC0415

            try:
                run(*chosen)
            finally:
                Ending(ENDING_SECONDS).begin()  # or a thread of the application could keep the process
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except AlphornError as error:
        return _fail(str(error), error.exit_status, error.trace)
    except (KeyboardInterrupt, click.Abort):
        pass  # interrupted before the server took the signal over: there is nothing to end
    return 0


def _fail(message: str, status: int, trace: str = "") -> int:
    click.echo(f"{trace}Error: {message}", err=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
