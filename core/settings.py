"""Where the settings come from: flags, `SERVE_*` variables and a TOML file, merged into one `Config`.

Invariants:
- A flag is stronger than a variable, a variable than a file, a file than the default.
- Every value keeps the label of the place that gave it, and every error begins with such a label.
- What nobody knows is refused, with the nearest name: a misspelt limit must not be a missing limit.
- A file is read when the operator names it. Only `[tool.serve]` in ./pyproject.toml is read unasked.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .config import SETTINGS, Config, check_together
from .errors import ConfigError
from .schema import Setting, nearest

APP = Setting(
    name="app",
    annotation=str | None,
    default=None,
    doc="The application, as MODULE:ATTRIBUTE[.ATTRIBUTE].",
    section="Application",
)
"""The argument APP of the command. No field of `Config`, because Python hands over the application itself."""

CONFIG_VARIABLE = "SERVE_CONFIG"
_PYPROJECT = "pyproject.toml"
_BY_KEY = {setting.key: setting for setting in (APP, *SETTINGS)}
_BY_VARIABLE = {setting.variable: setting for setting in (APP, *SETTINGS)}


class Given(NamedTuple):
    """A value that somebody gave, and what to call the place where it stood."""

    value: Any
    label: str


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command works with.

    Attributes:
        app: The name of the application, or None if nobody gave one.
        config: The effective settings.
        labels: Where each setting that is not a default comes from, by field name (and "app").
    """

    app: str | None
    config: Config
    labels: Mapping[str, str]


def gather(
    flags: Mapping[str, object], environment: Mapping[str, str], config_file: str | None = None
) -> Settings:
    """Merge every source into one configuration.

    Args:
        flags: What the command line gave, by field name (and "app"): texts, booleans or tuples of texts;
            None or an empty tuple where it gave nothing.
        environment: The environment variables.
        config_file: The argument of `--config`; without it, `SERVE_CONFIG` or ./pyproject.toml.

    Raises:
        ConfigError: A value, a name or a combination is wrong, or a file cannot be read.
    """
    given = {**_from_file(config_file, environment), **_from_environment(environment), **_from_flags(flags)}
    labels = {name: label for name, (_, label) in given.items()}
    values = {name: value for name, (value, _) in given.items()}
    app = values.pop(APP.name, None)
    check_together(values, lambda name: labels.get(name) or _flag(name))
    return Settings(app, Config(**values), labels)


def _flag(name: str, value: object = None) -> str:
    """What to call a setting on the command line, where a switch that is off has a name of its own."""
    if name == APP.name:
        return "APP"
    flag = _BY_KEY[name.replace("_", "-")].flag
    return f"--no-{flag[2:]}" if value is False else flag


def _from_flags(flags: Mapping[str, object]) -> dict[str, Given]:
    given = {}
    for setting in (APP, *SETTINGS):
        value = flags.get(setting.name)
        if value is None or value == ():
            continue
        label = _flag(setting.name, value)
        if isinstance(value, str):
            value = setting.from_text(value, label)
        elif value == ("",):
            value = setting.one("")
        setting.check(value, label)
        given[setting.name] = Given(value, label)
    return given


def _from_environment(environment: Mapping[str, str]) -> dict[str, Given]:
    given = {}
    for variable, text in environment.items():
        if not variable.startswith("SERVE_") or variable == CONFIG_VARIABLE:
            continue
        setting = _BY_VARIABLE.get(variable)
        if setting is None:
            meant = nearest(variable, [*_BY_VARIABLE, CONFIG_VARIABLE]) or "; unset it"
            raise ConfigError(f"{variable}: there is no such setting{meant}")
        given[setting.name] = Given(setting.from_text(text, variable), variable)
    return given


def _from_file(config_file: str | None, environment: Mapping[str, str]) -> dict[str, Given]:
    asked_by = "--config"
    if config_file is None:
        asked_by = CONFIG_VARIABLE
        config_file = environment.get(CONFIG_VARIABLE) or None
    if config_file is None:
        if not Path(_PYPROJECT).is_file():
            return {}
        return _from_table(
            _tool_serve(_load(_PYPROJECT, _PYPROJECT), _PYPROJECT) or {}, _PYPROJECT, "tool.serve."
        )

    content = _load(config_file, asked_by)
    if Path(config_file).name != _PYPROJECT:
        return _from_table(content, config_file, "")
    table = _tool_serve(content, config_file)
    if table is None:
        raise ConfigError(f"{asked_by}: {config_file} has no table [tool.serve]; add it")
    return _from_table(table, config_file, "tool.serve.")


def _load(path: str, asked_by: str) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 - most starts read no file

    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{asked_by}: cannot read {path}: {error.strerror}; check the path") from error
    except ValueError as error:  # bad TOML or bad UTF-8
        raise ConfigError(f"{path} is not TOML: {error}") from error


def _tool_serve(content: Mapping[str, Any], path: str) -> dict[str, Any] | None:
    """The table `[tool.serve]` of a pyproject.toml, or None if it has none."""
    tool = content.get("tool", {})
    table = tool.get("serve") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigError(f"tool.serve in {path} is not a table; write [tool.serve] above its keys")
    return table


def _from_table(table: Mapping[str, Any], path: str, prefix: str) -> dict[str, Given]:
    given: dict[str, Given] = {}
    for key, value in table.items():
        label = f"{prefix}{key if key.isprintable() else repr(key)} in {path}"
        setting = _BY_KEY.get(key.replace("_", "-"))
        if setting is None:
            meant = nearest(key, _BY_KEY) or "; `serve --help` lists them all, without the dashes in front"
            raise ConfigError(f"{label}: there is no such setting{meant}")
        if setting.name in given:
            raise ConfigError(f"{label} says the same as {given[setting.name].label}; drop one of them")
        given[setting.name] = Given(setting.from_toml(value, label), label)
    return given


def as_toml(settings: Settings) -> str:
    """Write the effective settings as TOML that `--config` can read, with the origin of each as a comment.

    Secrets are masked, and what another setting has replaced is a comment itself.
    """
    lines = ["# The effective settings, and where each comes from."]
    section = None
    for setting in (APP, *SETTINGS):
        if setting.section != section:
            section = setting.section
            lines += ["", f"# {section}"]
        value = settings.app if setting is APP else getattr(settings.config, setting.name)
        origin = settings.labels.get(setting.name, "default")
        line = f"{setting.key} = {toml_value(value)}"
        if setting.secret and value is not None:
            line = f'# {setting.key} = "***"'
        elif setting.name in ("host", "port") and settings.config.bind:
            line, origin = f"# {line}", f"replaced by {settings.labels['bind']}"
        lines.append(f"{line}  # {origin}")
    return "\n".join(lines) + "\n"


def toml_value(value: float | str | tuple[str, ...] | None) -> str:
    """Write one value as TOML: None, which TOML does not have, as the empty text that is read as None."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, str) or value is None:
        # JSON escapes what TOML wants escaped, but for DEL; a path that is not UTF-8 cannot be shown.
        text = (value or "").encode("utf-8", "replace").decode()
        return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value).lower()
