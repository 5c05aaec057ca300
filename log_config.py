"""How a process of ours logs; with `--log-config`, as a file says, in one of three languages."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from .core.config import Config
from .core.errors import ConfigError
from .core.log import configure_logging


def set_up_logging(config: Config, worker: str = "") -> None:
    """Configure `logging` as the settings say, for a process that is ours.

    Args:
        config: The settings.
        worker: The name of this process, if it is one of several.

    Raises:
        ConfigError: The file of `--log-config` cannot be read, or is no such configuration.
    """
    if config.log_config is not None:
        apply_log_config(config.log_config)
    configure_logging(config.log_level, config.log_format, worker)


def apply_log_config(path: str) -> None:
    """Configure `logging` as a file says (`logging.config.dictConfig`).

    Its `version` may be left out, and loggers that it does not name go on unless it says otherwise.

    Args:
        path: A file in JSON, TOML or YAML, by its ending.

    Raises:
        ConfigError: It cannot be read, or is no such configuration.
    """
    read = _READERS.get(Path(path).suffix.lower())
    if read is None:
        raise ConfigError(f"--log-config: {path} is in no known language; name it .json, .toml or .yaml")
    try:
        content = read(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--log-config: cannot read {path}: {error.strerror}; check the path") from error
    except ValueError as error:
        raise ConfigError(f"--log-config: {path} cannot be understood: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"--log-config: {path} is not an object with keys such as handlers and loggers")
    import logging.config  # noqa: PLC0415 - it loads a server, of which most processes have no need

    try:
        logging.config.dictConfig({"version": 1, "disable_existing_loggers": False} | content)
    except Exception as error:  # whatever a handler of somebody else's raises
        raise ConfigError(f"--log-config: {path}: {_one_line(error)}") from error


def _read_yaml(text: str) -> Any:
    try:
        import yaml  # noqa: PLC0415 - optional
    except ImportError:
        raise ConfigError(
            "--log-config: YAML needs PyYAML; `pip install alphorn[yaml]`, or write it in TOML or JSON"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _one_line(error: BaseException) -> str:
    """Return an exception and what it was raised from in one line: dictConfig says what, its cause says why."""
    texts = [str(error)]
    if error.__cause__ is not None:
        texts.append(str(error.__cause__))
    return ": ".join(" ".join(text.split()) for text in dict.fromkeys(texts))


_READERS: Final[dict[str, Callable[[str], Any]]] = {
    ".json": json.loads,
    ".toml": tomllib.loads,
    ".yaml": _read_yaml,
    ".yml": _read_yaml,
}
