"""What one setting is: its names, its type and its limits, and how a text becomes a value of it.

Invariants:
- `Setting.check` is the only judge of a value, whether a flag, a variable, a file or Python gave it.
- Knows neither which settings there are (config.py) nor where their values come from (settings.py).
"""

import dataclasses
import math
import re
import types
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from .errors import ConfigError

_NUMBER = re.compile(r"(-?[0-9]{1,15}(?:\.[0-9]{1,15})?) ?([a-z]*)", re.IGNORECASE)
_SCALES: dict[str, dict[str, float]] = {
    "": {"": 1},
    "bytes": {"": 1, "kib": 1024, "mib": 1024**2, "gib": 1024**3},
    "seconds": {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600},
}
_SWITCH_WORDS = dict.fromkeys(("1", "true", "yes", "on"), True) | dict.fromkeys(
    ("0", "false", "no", "off"), False
)
_NUMBER_PROBLEMS = {
    "": "is not a whole number; write it like 8000",
    "bytes": "is not a number of bytes; write it like 65536, 64KiB or 16MiB",
    "seconds": "is not a number of seconds; write it like 30, 500ms or 5m",
}


def setting(  # noqa: PLR0913 - one argument per thing a setting can say about itself
    default: Any,
    doc: str,
    *,
    section: str,
    unit: str = "",
    short: str = "",
    secret: bool = False,
    at_least: float | None = None,
    at_most: float | None = None,
    pattern: str = "",
    example: str = "",
    word: str = "",
) -> Any:
    """Declare one setting: a field of a dataclass.

    Args:
        default: The value when nobody says otherwise. Safe on the open internet.
        doc: What it does and, for a limit, why this number; shown by `--help` and in the reference.
        section: The heading it stands under in `--help` and in the reference.
        unit: What a number counts, "seconds" or "bytes"; what a text names, such as "file" or "folder".
        short: A one-letter flag, such as "-b".
        secret: Never shown: not by `--print-config`, not in an error, not in a repr.
        at_least: The smallest value that makes sense.
        at_most: The largest value that makes sense.
        pattern: A regular expression that the whole text has to match.
        example: A text that matches `pattern`, for the error.
        word: A word that may stand in place of the number, such as "auto".
    """
    metadata = {
        "doc": doc,
        "section": section,
        "unit": unit,
        "short": short,
        "secret": secret,
        "at_least": at_least,
        "at_most": at_most,
        "pattern": pattern,
        "example": example,
        "word": word,
    }
    return dataclasses.field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, kw_only=True, slots=True)
class Setting:
    """One setting, as its declaration and its type describe it.

    Attributes:
        name: The name of its field in Python.
        annotation: Its type: `bool`, `int`, `float`, `str`, `str | None`, `Literal[...]`, `tuple[str, ...]`, or
            `int | Literal[...]` for a number with a word.

    The other attributes are the arguments of `setting()`.
    """

    name: str
    annotation: Any
    default: Any
    doc: str
    section: str
    unit: str = ""
    short: str = ""
    secret: bool = False
    at_least: float | None = None
    at_most: float | None = None
    pattern: str = ""
    example: str = ""
    word: str = ""

    @property
    def key(self) -> str:
        """The key in a TOML file."""
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        """The long flag on the command line."""
        return f"--{self.key}"

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"SERVE_{self.name.upper()}"

    @property
    def metavar(self) -> str:
        """What stands for its value in `--help`."""
        if self.choices:
            return f"[{'|'.join(self.choices)}]"
        if self.word:
            return f"[NUMBER|{self.word}]"
        return self.unit.upper() or ("TEXT" if self.kind is str else "NUMBER")

    @property
    def default_text(self) -> str:
        """Its default for a reader, who would write it so; empty if there is none."""
        if self.kind is bool:
            return "on" if self.default else "off"
        if self.unit == "bytes":
            names = {1024**2: "MiB", 1024: "KiB", 1: ""}
            size = next(size for size in names if self.default % size == 0)
            return f"{self.default // size}{names[size]}"
        if self.kind is float:
            return f"{self.default:g}"
        if self.kind is tuple:
            return ", ".join(self.default)
        return "" if self.default is None else str(self.default)

    @property
    def choices(self) -> tuple[str, ...]:
        """The values that are possible, if they can be listed."""
        return get_args(self.annotation) if get_origin(self.annotation) is Literal else ()

    @property
    def optional(self) -> bool:
        """Whether None is a value: `str | None`."""
        return get_origin(self.annotation) is types.UnionType and not self.word

    @property
    def kind(self) -> type:
        """The type of a value that is there: bool, int, float, str or tuple."""
        if self.choices or self.optional:
            return str
        if self.word:
            return int
        kind: type = get_origin(self.annotation) or self.annotation
        return kind

    @staticmethod
    def one(text: str) -> tuple[str, ...]:
        """The tuple that a single text stands for in Python, in TOML and as a flag: empty, it is none."""
        return (text,) if text else ()

    def from_text(self, text: str, label: str) -> Any:
        """Read the value that a flag or a variable gives.

        An empty text is None for a setting that may be None: so a flag can take back what a file says.

        Args:
            text: The value as the operator wrote it; for a tuple its parts, separated by commas.
            label: The flag, variable or key it stood in, for the error.

        Raises:
            ConfigError: The text is no value of this setting.
        """
        value: Any = text
        if self.kind is bool:
            value = _SWITCH_WORDS.get(text.lower(), text)
        elif self.kind is tuple:
            value = tuple(part.strip() for part in text.split(",") if part.strip())
        elif self.word and text.lower() == self.word:
            value = self.word
        elif self.kind in (int, float):
            value = self._number(text)
        elif self.choices:
            value = text.lower()
        elif self.optional and not text:
            value = None
        self.check(value, label)
        return value

    def from_toml(self, value: Any, label: str) -> Any:
        """Read the value that a TOML file gives: typed, except for a text with a unit, such as "64KiB".

        Raises:
            ConfigError: It is no value of this setting.
        """
        if self.kind is tuple:
            if not isinstance(value, list | str):
                raise ConfigError(f'{label}: {value!r} is not an array; write it like {self.key} = ["..."]')
            value = self.one(value) if isinstance(value, str) else tuple(value)
        elif isinstance(value, str) and (self.kind is str or self.unit or self.word):
            return self.from_text(value, label)
        self.check(value, label)
        return value

    def check(self, value: object, label: str) -> None:
        """Refuse a value of the wrong type or outside the limits.

        Args:
            value: The value, as `Config` would hold it.
            label: What the operator called the setting, for the error.

        Raises:
            ConfigError: The message says what is wrong and what would be right.
        """
        if (value is None and self.optional) or (self.word and value == self.word):
            return
        problem = self._type_problem(value) or self._limit_problem(value)
        if problem:
            shown = "the value" if self.secret else repr(value)
            raise ConfigError(f"{label}: {shown} {problem}")

    def _number(self, text: str) -> float | str:
        """The number in a text; the text itself, for `check` to refuse, if there is none."""
        match = _NUMBER.fullmatch(text.strip())
        scale = match and _SCALES[self.unit].get(match[2].lower())
        if match is None or scale is None:
            return text
        if self.kind is int:
            return text if "." in match[1] or scale < 1 else int(match[1]) * int(scale)
        return float(match[1]) * scale

    def _type_problem(self, value: object) -> str:
        if self.choices:
            return self._choice_problem(value)
        if self.kind is bool:
            return "" if isinstance(value, bool) else "is neither true nor false; give one of them"
        if self.kind in (int, float):
            if isinstance(value, int) and not isinstance(value, bool):
                return ""
            if isinstance(value, float) and self.kind is float and math.isfinite(value):
                return ""
            return _NUMBER_PROBLEMS[self.unit] + (f", or {self.word}" if self.word else "")
        if self.kind is tuple:
            if isinstance(value, tuple) and all(part and isinstance(part, str) for part in value):
                return ""
            return "is not a tuple of texts; each of them is a text that is not empty"
        if not isinstance(value, str):
            return "is not a text; put it in quotes"
        return "is empty; leave it out instead" if self.optional and not value else ""

    def _choice_problem(self, value: object) -> str:
        if value in self.choices:
            return ""
        if isinstance(value, int | float):  # 1.2 in TOML, where "1.2" is meant
            return "is not a text; put it in quotes"
        return f"is not one of {', '.join(self.choices)}{nearest(str(value), self.choices)}"

    def _limit_problem(self, value: Any) -> str:
        if self.at_least is not None and value < self.at_least:
            return f"is too little; give {self.at_least} or more"
        if self.at_most is not None and value > self.at_most:
            return f"is too much; give {self.at_most} or less"
        if self.pattern and not re.fullmatch(self.pattern, value):
            return f"will not do; write it like {self.example!r}"
        return ""


def describe(schema: type) -> tuple[Setting, ...]:
    """The settings that a dataclass declares with `setting()`, in its order."""
    return tuple(
        Setting(name=field.name, annotation=field.type, default=field.default, **field.metadata)
        for field in dataclasses.fields(schema)
    )


def nearest(word: str, words: Iterable[str]) -> str:
    """The end of an error about an unknown word: "; did you mean ...?", or nothing if none is near."""
    import difflib  # noqa: PLC0415 - only a mistake needs it, and `serve --help` is to be quick

    found = difflib.get_close_matches(word, words, n=1)
    return f"; did you mean {found[0]}?" if found else ""
