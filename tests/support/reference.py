"""Writes docs/reference.md from the schema of the settings: `python tests/support/reference.py`."""

from itertools import groupby
from pathlib import Path

from alphorn.core.config import SETTINGS
from alphorn.core.schema import Setting
from alphorn.core.settings import APP

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"

INTRODUCTION = """\
# Reference of the settings

<!-- Made from core/config.py by tests/support/reference.py; a test compares. Change it there. -->

```
serve [OPTIONS] APP
```

`serve`, `alphorn` and `python -m alphorn` are the same command.

## Where a setting comes from

Every setting has four names that follow from one: `--max-head-bytes` on the command line,
`SERVE_MAX_HEAD_BYTES` in the environment, `max-head-bytes` in a TOML file (`max_head_bytes` is read as well)
and `max_head_bytes` in Python: `alphorn.run(app, max_head_bytes=65536)`.

A flag is stronger than a variable, a variable than a file, a file than the default.
`serve --print-config APP` shows what is in effect and where each value comes from, as TOML that `--config` reads.

Names and values that nobody knows are refused, with the nearest name that is known.

**The file** is the one that `--config FILE` or the variable `SERVE_CONFIG` names. Without either, the table
`[tool.serve]` of `pyproject.toml` in the working directory is read, if there is one. No other file is
read unasked, `serve.toml` neither. Relative paths in it start at the working directory.

```toml
# serve.toml, for `serve --config serve.toml`
app = "shop.main:app"
bind = ["0.0.0.0:443", "[::]:443"]
certfile = "/etc/shop/cert.pem"
keyfile = "/etc/shop/key.pem"
ws-max-message = "1MiB"
graceful-timeout = 25
```

**Variables** that begin with `SERVE_` belong to Alphorn. Several values are separated by commas.
Kubernetes makes variables such as `SERVE_PORT` for a service called `serve`, and they are refused: give the
service another name, or set `enableServiceLinks: false`.

## How values are written

| Type | On the command line and in variables | In TOML | In Python |
|---|---|---|---|
| switch | `--h2c`, `--no-h2c`; `1` `true` `yes` `on`, `0` `false` `no` `off` | `true`, `false` | `True`, `False` |
| whole number | `8000` | `8000` | `8000` |
| bytes | `65536`, `64KiB`, `16MiB`, `1GiB` | `65536`, `"64KiB"` | `65536` |
| seconds | `30`, `2.5`, `500ms`, `30s`, `5m`, `1h` | `30`, `"5m"` | `30` |
| text | `/api` | `"/api"` | `"/api"` |
| several texts | `-b :80 -b :81`; `SERVE_BIND=:80,:81` | `[":80", ":81"]` | `(":80", ":81")` |

One text where several may stand needs no brackets: `bind = ":80"` in TOML, `run(app, bind=":80")` in Python.
Where a text or a file may be missing, the empty text says that it is: `--certfile ""` takes back what a file says.
"""

CLOSING = """\
## Options of the command alone

- `--config FILE` reads settings from a TOML file.
- `--demo` serves the demonstration that comes with Alphorn, in place of `APP`.
- `--print-config` prints the effective settings and where each comes from, and exits. Secrets are masked.
- `--version` and `--help` print and exit.

## Exit status

| Status | Meaning |
|---|---|
| 0 | The server was told to stop, and stopped. |
| 1 | The server stopped, but had to leave threads of the application behind; or workers crashed again and again. |
| 2 | A mistake in the settings, or an application that cannot be loaded: one line says which and what to do. |
| 3 | The application refused to start (lifespan). |
| 4 | The application's shutdown failed (lifespan), or took too long. |

## Completion in the shell

Add the line of your shell to its start-up file:

```
eval "$(_SERVE_COMPLETE=bash_source serve)"            # ~/.bashrc
eval "$(_SERVE_COMPLETE=zsh_source serve)"             # ~/.zshrc
_SERVE_COMPLETE=fish_source serve | source             # ~/.config/fish/completions/serve.fish
```
"""


def reference() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    for section, settings in groupby((APP, *SETTINGS), key=lambda setting: setting.section):
        parts.append(f"## {section}\n")
        parts += map(entry, settings)
    return "\n".join([*parts, CLOSING])


def entry(setting: Setting) -> str:
    """One setting: its names, what it accepts, its default, and what it means."""
    flags = [setting.short, setting.flag] if setting.short else [setting.flag]
    if setting.kind is bool:
        flags.append(f"--no-{setting.key}")
    title = "`APP`" if setting is APP else ", ".join(f"`{flag}`" for flag in flags)
    default = f"`{setting.default_text}`" if setting.default_text else "none"
    facts = f"`{setting.variable}` · `{setting.key}` · {accepted(setting)} · default: {default}"
    return f"### {title}\n\n{facts}\n\n{setting.doc}\n"


def accepted(setting: Setting) -> str:
    """The type, the unit and the limits of a setting."""
    if setting.choices:
        return " or ".join(f"`{choice}`" for choice in setting.choices)
    kinds = {bool: "switch", int: "whole number", float: "number", str: "text", tuple: "text"}
    words = setting.unit or kinds[setting.kind]
    if setting.word:
        words = f"`{setting.word}` or {words}"
    if setting.kind is tuple:
        words += ", repeatable"
    if setting.at_most is not None:
        words += f", {setting.at_least} to {setting.at_most}"
    elif setting.at_least is not None:
        words += f", {setting.at_least} or more"
    return words


if __name__ == "__main__":
    PAGE.write_text(reference(), "utf-8")
