"""The command as an operator meets it: real processes, what they print, and how they end."""

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from alphorn import __version__
from alphorn.core.build import COMPILED
from alphorn.core.config import SETTINGS

PATIENCE_SECONDS = 30
HEAVY = {"asyncio", "cryptography", "h11", "h2", "hpack", "ssl", "uvloop", "websockets", "wsproto"}


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment without anything that configures the server."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SERVE_")}


class Command:
    """Runs the command in a folder of its own."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def __call__(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "alphorn", *arguments],
            cwd=self.folder,
            env=self.environment | variables,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def refuses(self, *arguments: str, status: int = 2, **variables: str) -> str:
        """Run a command that is a mistake; return the one line it is told."""
        done = self(*arguments, **variables)
        assert done.returncode == status, done.stderr
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        lines = done.stderr.splitlines()
        assert len(lines) == 1, done.stderr
        assert lines[0].startswith("Error: ")
        return lines[0].removeprefix("Error: ")

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, "utf-8")


@pytest.fixture
def command(tmp_path: Path, environment: dict[str, str]) -> Command:
    return Command(tmp_path, environment)


# --- Without serving


def test_help_lists_every_setting_under_its_section(command: Command) -> None:
    done = command("--help")
    assert (done.returncode, done.stderr) == (0, "")
    for setting in SETTINGS:
        assert re.search(rf"^  (-., )?{setting.flag}\b", done.stdout, re.MULTILINE), setting.flag
        assert f"\n{setting.section}:\n" in done.stdout
    for flag in ("--config", "--demo", "--print-config", "--version", "--help"):
        assert f"  {flag} " in done.stdout


def test_version(command: Command) -> None:
    assert command("--version").stdout == f"alphorn {__version__}{' (compiled)' if COMPILED else ''}\n"


def test_the_effective_settings_are_printed_as_toml(command: Command) -> None:
    command.write("serve.toml", 'max-fields = 7\nkeyfile-password = "hunter2"\ncertfile = "c.pem"')
    done = command("--print-config", "--config", "serve.toml", "--no-h2c", "m:app", SERVE_PORT="0")
    assert (done.returncode, done.stderr) == (0, "")
    printed = tomllib.loads(done.stdout)
    assert (printed["app"], printed["max-fields"], printed["h2c"], printed["port"]) == ("m:app", 7, False, 0)
    for origin in ("# max-fields in serve.toml", "# --no-h2c", "# SERVE_PORT", "# APP", "# default"):
        assert origin in done.stdout
    assert "hunter2" not in done.stdout


def test_the_demo_is_an_application_by_name(command: Command) -> None:
    done = command("--demo", "--print-config", SERVE_APP="other:make", SERVE_FACTORY="1")
    printed = tomllib.loads(done.stdout)
    assert (printed["app"], printed["factory"]) == ("alphorn.demo:app", False)


def scripts() -> list[Path]:
    return [Path(sysconfig.get_path("scripts"), name) for name in ("serve", "alphorn")]


@pytest.mark.parametrize("script", scripts(), ids=lambda script: script.name)
def test_the_scripts_are_installed_under_both_names(script: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [script, "--help"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert done.stdout.startswith(f"Usage: {script.name} [OPTIONS] APP\n")


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("serve --log-l", {"--log-level"}),
        ("serve --no-acc", {"--no-access-log"}),
        ("serve --loop uv", {"uvloop"}),
    ],
)
def test_the_shell_completes_options_and_choices(
    words: str, completions: set[str], environment: dict[str, str]
) -> None:
    asked = {
        "_SERVE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        [scripts()[0]],
        env=environment | asked,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == completions


@pytest.mark.parametrize(
    "code",
    [
        "import alphorn",
        "import sys; sys.argv[1:] = ['--help']; import alphorn.__main__ as command; command.main()",
    ],
    ids=["import", "help"],
)
def test_nothing_heavy_is_loaded_before_there_is_something_to_serve(
    code: str, environment: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules, file=sys.stderr)"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    )
    assert not HEAVY.intersection(done.stderr.split())


# --- Mistakes on the command line


def test_without_an_application_it_says_what_to_write(command: Command) -> None:
    assert command.refuses() == (
        "no application to serve: name one, such as `serve module:app`, or try `serve --demo`"
    )


def test_an_unknown_option_is_told_the_nearest(command: Command) -> None:
    message = command.refuses("--prot", "80", "m:app")
    assert "--prot" in message
    assert "--port" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--port", "http", "m:app"], "--port: 'http' is not a whole number; write it like 8000"),
        (["--loop", "uvlop", "m:app"], "--loop: 'uvlop' is not one of auto, uvloop, asyncio; did you mean uvloop?"),
        (["-b", ":80", "--port", "80", "m:app"], "--port cannot stand beside --bind, which names the port itself: drop --port"),
        (["--keyfile", "k.pem", "m:app"], "--keyfile is of no use without --certfile: add --certfile"),
        (["--config", "nosuch.toml"], "--config: cannot read nosuch.toml: No such file or directory; check the path"),
        (["--demo", "m:app"], "--demo serves an application of its own: drop --demo or APP"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(command: Command, arguments: list[str], message: str) -> None:
    assert command.refuses(*arguments) == message


@pytest.mark.parametrize("arguments", [["--port"], ["m:app", "n:app"], ["--factory=yes", "m:app"]])
def test_what_the_parser_refuses_is_one_line_as_well(command: Command, arguments: list[str]) -> None:
    command.refuses(*arguments)


def test_a_mistake_in_a_variable_or_a_file_names_it(command: Command) -> None:
    assert command.refuses("m:app", SERVE_PORT="x").startswith("SERVE_PORT: 'x'")
    assert command.refuses("m:app", SERVE_PROT="1").endswith("did you mean SERVE_PORT?")
    command.write("pyproject.toml", "[tool.serve]\nprot = 1")
    assert command.refuses("m:app") == (
        "tool.serve.prot in pyproject.toml: there is no such setting; did you mean port?"
    )


# --- Mistakes found when it is about to serve


def test_a_missing_module_is_one_line(command: Command) -> None:
    assert "'nosuch'" in command.refuses("nosuch:app", "--port", "0")


def test_a_missing_attribute_is_one_line(command: Command) -> None:
    command.write("shop.py", "async def app(scope, receive, send): ...")
    assert "did you mean 'app'?" in command.refuses("shop:ap", "--port", "0")


def test_something_that_cannot_be_called_is_one_line(command: Command) -> None:
    command.write("shop.py", "app = 1")
    assert "cannot be called" in command.refuses("shop:app", "--port", "0")


def test_the_application_may_be_named_by_a_variable_or_a_file(command: Command) -> None:
    assert "'nosuch'" in command.refuses(SERVE_APP="nosuch:app")
    command.write("pyproject.toml", '[tool.serve]\napp = "nothere:app"')
    assert "'nothere'" in command.refuses()


def test_an_exception_in_the_module_shows_its_own_traceback_only(command: Command) -> None:
    command.write("shop.py", "def prepare():\n    raise RuntimeError('no stock')\n\nprepare()\n")
    done = command("shop:app", "--port", "0")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    files = [line for line in lines if line.startswith("  File ")]
    assert len(files) == 2
    assert all("shop.py" in line for line in files)
    assert lines[-2] == "RuntimeError: no stock"
    assert lines[-1].startswith("Error: ")


def test_a_port_in_use_is_one_line(command: Command) -> None:
    command.write("shop.py", "async def app(scope, receive, send): ...")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert port in command.refuses("shop:app", "--port", port, "--lifespan", "off")


def test_a_bad_address_is_one_line(command: Command) -> None:
    command.write("shop.py", "async def app(scope, receive, send): ...")
    assert "nonsense" in command.refuses("shop:app", "--bind", "nonsense", "--lifespan", "off")


def test_a_missing_certificate_is_one_line(command: Command) -> None:
    command.write("shop.py", "async def app(scope, receive, send): ...")
    assert "nosuch.pem" in command.refuses("shop:app", "--port", "0", "--certfile", "nosuch.pem")


LIFESPAN_FAILS = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})
"""


def test_an_application_that_refuses_to_start_is_exit_status_3(command: Command) -> None:
    command.write("shop.py", LIFESPAN_FAILS)
    done = command("shop:app", "--port", "0")
    assert done.returncode == 3
    assert "no database" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM], ids=lambda stop: stop.name)
def test_a_signal_ends_it_with_status_0(command: Command, stop: signal.Signals) -> None:
    command.write("shop.py", "async def app(scope, receive, send): ...")
    with subprocess.Popen(
        [sys.executable, "-m", "alphorn", "--port", "0", "--lifespan", "off", "shop:app"],
        cwd=command.folder,
        env=command.environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            while "http://127.0.0.1:" not in (line := process.stderr.readline()):
                assert line, "it ended before it said where it listens"
            process.send_signal(stop)
            rest = process.stderr.read()
            assert process.wait(PATIENCE_SECONDS) == 0
            assert "Traceback" not in rest
        finally:
            process.kill()
