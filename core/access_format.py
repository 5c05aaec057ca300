"""What a line of the access log says: a format string, or JSON, made once into a function of `Outcome`s.

The atoms are those of Gunicorn and Hypercorn, which have theirs from Apache, and a few of our own.

Each part of a line is an expression, and a format is compiled from those of its parts, as `dataclasses`
compiles its methods: a line costs no call that could be spared. Two ways lead to it, with the same expressions:

- quick: lines are made of what is there, and looked at together. If nothing in them has to be escaped, cut or
  left out, as nearly always, they are what is written.
- careful: part by part. Whatever a peer wrote is escaped. Whatever an application has done to its scope,
  there is a line: what cannot be told is "-", in JSON null.
"""

import ast
import base64
import binascii
import os
import re
import time
from collections.abc import Callable, Sequence
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Final, TypeAlias, cast

from .asgi import Scope
from .errors import ConfigError
from .log import LONGEST_TEXT, escape, format_address, shorten
from .outcome import Outcome
from .request_ids import read_trace_id
from .schema import nearest

DEFAULT: Final = '%(client)s "%(r)s" %(s)s %(B)s %(duration)s'

Describe: TypeAlias = Callable[[Sequence[Outcome]], list[str]]
"""Makes the lines, without their ends, of what became of some requests."""

_UnixTimeAt: TypeAlias = Callable[[float], float]
_Write: TypeAlias = Callable[[Any], str]
_Names: TypeAlias = dict[str, Any]

_ATOM: Final = re.compile(
    r"%(?:\((?:\{(?P<argument>[^{}]*)\})?(?P<name>\w*)\)[sd]|(?P<percent>%))|(?P<bad>%)"
)
# Of what `log.escape` leaves alone this makes spaces, and of all else "!".
_MARK_ODD: Final = bytes(0x20 if 0x20 <= byte < 0x7F and byte not in b'"\\' else 0x21 for byte in range(256))
_TLS_VERSIONS: Final = {0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
# Those that the server speaks, by their names in the IANA registry; of any other, the number is told.
_CIPHERS: Final = {
    0x1301: "TLS_AES_128_GCM_SHA256",
    0x1302: "TLS_AES_256_GCM_SHA384",
    0x1303: "TLS_CHACHA20_POLY1305_SHA256",
    0xC02B: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    0xC02C: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    0xC02F: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    0xC030: "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    0xCCA8: "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
    0xCCA9: "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
}
# What expressions are made of, besides the functions below: what an `Outcome` has, and what costs a little, made
# once a line.
_OUTCOME: Final = "scope, status, fields, length, seconds, ended_at, stream_id"
_MADE_ONCE: Final = {
    # Of a field that came twice, the first. `dict` itself would take twice as long.
    "sent": "{name: value for name, value in reversed(scope['headers'])}",
    "answered": "{name: value for name, value in reversed(fields)}",
    "tls": "scope['extensions'].get('tls', no_tls)",
    "microseconds": "int(seconds * 1_000_000 + 0.5)",
}
_NO_TLS: Final = {"tls_version": None, "cipher_suite": None}


def _compile_lines(texts: Sequence[str], expressions: Sequence[str], names: _Names) -> Describe:
    """Make a function of outcomes.

    Args:
        texts: What stands before, between and behind the expressions.
        expressions: Of one outcome each.
        names: What they may use.
    """
    once = "".join(
        f" for {name} in ({value},)"
        for name, value in _MADE_ONCE.items()
        if any(re.search(rf"\b{name}\b", expression) for expression in expressions)
    )
    parts: list[ast.expr] = [ast.Constant(texts[0])]
    for expression, text in zip(expressions, texts[1:], strict=True):
        part = ast.parse(expression, mode="eval").body
        parts += part.values if isinstance(part, ast.JoinedStr) else [ast.FormattedValue(part, -1)]
        parts.append(ast.Constant(text))
    tree = ast.parse(f"lambda outcomes: [line for {_OUTCOME} in outcomes{once}]", mode="eval")
    lines = cast(ast.ListComp, cast(ast.Lambda, tree.body).body)
    lines.elt = ast.JoinedStr(parts)  # by far the fastest way to put texts together
    code = compile(ast.fix_missing_locations(tree), "<access log>", "eval")
    describe: Describe = eval(code, dict(names))  # noqa: S307 - of expressions in this module, and reprs
    return describe


def _compile(
    texts: Sequence[str],
    parts: Sequence[tuple[str, str]],
    *,
    quick: _Names,
    careful: _Names,
    is_sound: Callable[[str, int], bool],
) -> Describe:
    """Make a function of outcomes that goes the quick way, and the careful one where it has to.

    Args:
        texts: What stands before, between and behind the parts.
        parts: Expressions, each with what stands there if it cannot be told.
        quick: What they may use, as long as nothing has to be escaped or cut.
        careful: The same, for anything.
        is_sound: Whether the quick lines, here without anything between them, and so many, may be written.
    """
    make_lines = _compile_lines(texts, [expression for expression, _ in parts], quick)
    careful_parts = [
        (_compile_lines(["", ""], [expression], careful), missing) for expression, missing in parts
    ]

    def try_lines(outcomes: Sequence[Outcome]) -> list[str] | None:
        try:
            lines = make_lines(outcomes)
            text = "".join(lines)
            is_short = len(text) <= LONGEST_TEXT or max(map(len, lines)) <= LONGEST_TEXT
            return lines if is_short and is_sound(text, len(lines)) else None
        except Exception:  # noqa: BLE001 - by now the scopes are the application's
            return None

    def make_part(make: Describe, missing: str, outcome: Outcome) -> str:
        try:
            return make([outcome])[0]
        except Exception:  # noqa: BLE001 - see above
            return missing

    def make_line(outcome: Outcome) -> str:
        quick_line = try_lines([outcome])
        if quick_line:
            return quick_line[0]
        said = [make_part(make, missing, outcome) for make, missing in careful_parts]
        return texts[0] + "".join(part + text for part, text in zip(said, texts[1:], strict=True))

    def describe(outcomes: Sequence[Outcome]) -> list[str]:
        return try_lines(outcomes) or [make_line(outcome) for outcome in outcomes]

    return describe


def has_time(text: str) -> bool:
    """Whether a format string says when; where none does, the time is put in front of the line."""
    return any(atom["name"] in ("t", "time") for atom in _ATOM.finditer(text))


def compile_format(text: str, unix_time_at: _UnixTimeAt) -> Describe:
    """Make a function of a format string.

    Args:
        text: As `--access-log-format` has it: atoms like `%(h)s`, `%({user-agent}i)s`, and `%%`.
        unix_time_at: Makes a moment on the clock one in seconds since 1970.

    Raises:
        ConfigError: There is no such atom.
    """
    texts: list[str] = [""]
    parts: list[tuple[str, str]] = []
    times: _Names = {"iso_time": _iso_time(unix_time_at)}
    end = 0
    for atom in _ATOM.finditer(text):
        texts[-1] += text[end : atom.start()]
        end = atom.end()
        if atom["bad"]:
            where = text[atom.start() : atom.start() + 12]
            raise ConfigError(
                f"--access-log-format: {where!r} is no atom; write one like %(h)s, and %% for a percent sign"
            )
        if atom["percent"]:
            texts[-1] += "%"
            continue
        name, argument = atom["name"], atom["argument"]
        if name == "t":
            expression = f"time_{len(times)}(ended_at)"
            times[f"time_{len(times)}"] = _strftime(argument or _APACHE_TIME, unix_time_at)
        else:
            expression = _expression(name, argument)
        parts.append((expression, "-"))
        texts.append("")
    texts[-1] += text[end:]
    ours = _count_odd("".join(texts))
    return _compile(
        texts,
        parts,
        quick=_QUICK | times,
        careful=_CAREFUL | times,
        is_sound=lambda lines, count: _count_odd(lines) == ours * count,
    )


def _count_odd(text: str) -> int:
    """Count what is to be escaped where a peer has written it; `isprintable` and the like take four times as long."""
    return text.encode().translate(_MARK_ODD).count(b"!")


def _expression(name: str, argument: str | None) -> str:
    if argument is not None:
        if name in _WITH_ARGUMENT:
            return _WITH_ARGUMENT[name](argument)
        known = ", ".join(f"%({{...}}{each})s" for each in (*_WITH_ARGUMENT, "t"))
        raise ConfigError(f"--access-log-format: there is no %({{{argument}}}{name})s; there are {known}")
    if name in _ATOMS:
        return _ATOMS[name]
    meant = nearest(name, [*_ATOMS, "t"]) or "; docs/logging.md lists them"
    raise ConfigError(f"--access-log-format: there is no atom %({name})s{meant}")


class _Memory(dict[Any, str]):
    """What was written of a few values; of none that is long, for that is memory: ValueError."""

    def __init__(self, write: Callable[[Any], str], most: int) -> None:
        self._write = write
        self._most = most

    def __missing__(self, value: Any) -> str:
        text = self._write(value)
        if len(text) > LONGEST_TEXT:
            raise ValueError
        if len(self) >= self._most:
            self.clear()
        self[value] = text
        return text


def _remembered(write: Callable[[Any], str], most: int = 256) -> Callable[[Any], str]:
    """Return a function of one value, or a tuple, that looks first in what it wrote; `lru_cache` takes longer."""
    return _Memory(write, most).__getitem__


# ---------------------------------------------------------------------- time

_APACHE_TIME: Final = "[%d/%b/%Y:%H:%M:%S %z]"
_THOUSANDTHS: Final = tuple(f".{number:03d}" for number in range(1000))


def _by_second(write: Callable[[int], str]) -> Callable[[float], str]:
    """Return a function of a unix time that says what `write` makes of its second; it is written once a second."""
    known, text = -1, ""

    def read(seconds: float) -> str:
        nonlocal known, text
        if (second := int(seconds)) != known:
            known, text = second, write(second)
        return text

    return read


def local_time(pattern: str) -> Callable[[float], str]:
    """Return a function of a unix time that says the local time, as `time.strftime` writes it."""
    return _by_second(lambda second: time.strftime(pattern, time.localtime(second)))


def _strftime(pattern: str, unix_time_at: _UnixTimeAt) -> Callable[[float], str]:
    write = local_time(pattern)
    return lambda moment: write(unix_time_at(moment))


def _iso_time(unix_time_at: _UnixTimeAt) -> Callable[[float], str]:
    """Return a function of a moment that says the time in UTC, with milliseconds (RFC 3339)."""
    known, text = -1, ""

    def read(moment: float) -> str:
        nonlocal known, text
        seconds = unix_time_at(moment)
        if (second := int(seconds)) != known:
            known, text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{text}{_THOUSANDTHS[int((seconds - second) * 1000)]}Z"

    return read


# ---------------------------------------------------------------------- who asked for what


def _address(address: Any) -> str:
    return escape(format_address(address))  # middleware may have put anything there


def _host(address: Any) -> str:
    return escape(address[0]) if address else "-"


def _of_tuple(write: Callable[[Any], str]) -> Callable[[Any], str]:
    """Let middleware put a list in the place of an address."""
    return lambda address: write(tuple(address or ()) or None)


def _method(scope: Scope) -> str:
    """Return the method; a websocket scope has none: it was a GET (RFC 6455, 4.1) or a CONNECT (RFC 8441, 4)."""
    method: str | None = scope.get("method")
    return method or ("GET" if scope["http_version"] == "1.1" else "CONNECT")


def _user(credentials: bytes) -> str:
    """Return the name of HTTP Basic authentication (RFC 7617), whoever may have checked it."""
    scheme, _, token = credentials.partition(b" ")
    if scheme.lower() != b"basic":
        return "-"
    try:
        name = base64.b64decode(token, validate=True).partition(b":")[0]
    except binascii.Error:
        return "-"
    return escape(name.decode(errors="replace")) or "-"


def _escaped(value: bytes) -> str:
    return escape(value.decode("latin-1"))


def _tls_version(number: int) -> str:
    return _TLS_VERSIONS.get(number) or str(number)


def _cipher(number: int) -> str:
    return _CIPHERS.get(number) or str(number)


def _or_dash(write: Callable[[int], str]) -> Callable[[int | None], str]:
    return lambda number: "-" if number is None else write(number)


def _field(name: str) -> str:
    return f"text(sent.get({name.lower().encode()!r}, b'-'))"


_METHOD: Final = "word(scope.get('method') or method(scope))"
_TARGET: Final = (
    "text(scope['raw_path'] + b'?' + scope['query_string'] if scope['query_string'] else scope['raw_path'])"
)
_VERSION: Final = "word('HTTP/' + scope['http_version'])"

# What a peer or an application wrote passes through `text` or `word`, or a function of its own.
_ATOMS: Final = {
    "h": "host(scope['client'])",
    "l": "'-'",
    "u": "user(sent.get(b'authorization', b''))",
    "r": f'f"{{{_METHOD}}} {{{_TARGET}}} {{{_VERSION}}}"',
    "m": _METHOD,
    "U": "text(scope['raw_path'])",
    "q": "text(scope['query_string'])",
    "H": _VERSION,
    "s": "number(status or '-')",
    "B": "number(length)",
    "b": "number(length or '-')",
    "f": _field("referer"),
    "a": _field("user-agent"),
    "T": "int(seconds)",
    "M": "int(seconds * 1000)",
    "D": "int(seconds * 1_000_000)",
    "L": "format(seconds, '.6f')",
    "p": "getpid()",
    "client": "address(scope['client'])",
    "time": "iso_time(ended_at)",
    "scheme": "word(scope['scheme'])",
    "type": "word(scope['type'])",
    "stream": "stream_id or '-'",
    "tls": "tls_version(tls['tls_version'])",
    "cipher": "cipher(tls['cipher_suite'])",
    "id": _field("x-request-id"),
    "trace": "trace_id(sent.get(b'traceparent')) or '-'",
    "duration": "milliseconds(int(seconds * 10_000 + 0.5))",
}
_WITH_ARGUMENT: Final[dict[str, Callable[[str], str]]] = {
    "i": _field,
    "o": lambda name: f"text(answered.get({name.lower().encode()!r}, b'-'))",
    "e": lambda name: repr(os.environ.get(name, "-")),
}
_QUICK: Final[_Names] = {
    "address": _remembered(_address, 1024),
    "cipher": _or_dash(_cipher),
    "getpid": os.getpid,
    "host": _remembered(_host, 1024),
    "method": _method,
    # Few answers take long, and a number with a point takes long to write.
    "milliseconds": _remembered(lambda tenths: f"{tenths / 10:.1f}ms", 4096),
    "no_tls": _NO_TLS,
    "number": _remembered(str, 4096),
    "text": bytes.decode,
    "tls_version": _or_dash(_tls_version),
    "trace_id": read_trace_id,
    "user": _user,
    "word": str,
}
_CAREFUL: Final[_Names] = _QUICK | {
    "address": _of_tuple(_address),
    "host": _of_tuple(_host),
    "text": _escaped,
    "word": escape,
}

# ---------------------------------------------------------------------- JSON

# Each with its expression, and with what stands there if it cannot be told. What is the same in most lines is
# made together, and remembered. Here as well, a peer's words pass through a function.
_JSON: Final = (
    ('"time": "%s"', _ATOMS["time"], ""),
    ('"client": %s', "client(scope['client'])", "null"),
    ('"method": %s', _METHOD, "null"),
    ('"path": %s', "quote(text(scope['raw_path']))", "null"),
    ('"query": %s', "quote(text(scope['query_string']))", "null"),
    (
        '"protocol": %s',
        "carried((scope.get('http_version'), scope.get('type'), scope.get('scheme')))",
        'null, "type": null, "scheme": null',
    ),
    ('"status": %s', "status or 'null'", "null"),
    ('"bytes": %s', "length", "null"),
    ('"duration_ms": %s', "f'{microseconds // 1000}{thousandths[microseconds % 1000]}'", "null"),
    ('"stream": %s', "stream_id or 'null'", "null"),
    ('"tls": %s', "secured((tls['tls_version'], tls['cipher_suite']))", 'null, "cipher": null'),
    (
        '"host": %s',
        "sent_by((sent.get(b'host'), sent.get(b'user-agent'), sent.get(b'referer')))",
        'null, "user_agent": null, "referer": null',
    ),
    ('"request_id": %s', "field(sent[b'x-request-id']) if b'x-request-id' in sent else 'null'", "null"),
    ('"trace_id": %s', "trace_id(sent[b'traceparent']) if b'traceparent' in sent else 'null'", "null"),
)


def json_format(unix_time_at: _UnixTimeAt) -> Describe:
    """Return a function that makes one JSON object of each outcome, always with the same members."""
    times = {"iso_time": _iso_time(unix_time_at)}
    return _compile(
        f"{{{', '.join(template for template, _, _ in _JSON)}}}".split("%s"),
        [(expression, missing) for _, expression, missing in _JSON],
        quick=_JSON_QUICK | times,
        careful=_JSON_CAREFUL | times,
        is_sound=lambda lines, _: "\\" not in lines and "\x7f" not in lines,
    )


def _carried(write: _Write) -> Callable[[tuple[str | None, str, str]], str]:
    def write_all(values: tuple[str | None, str, str]) -> str:
        version, kind, scheme = values
        return f'{write(version and "HTTP/" + version)}, "type": {write(kind)}, "scheme": {write(scheme)}'

    return write_all


def _sent_by(write: _Write) -> Callable[[tuple[bytes | None, bytes | None, bytes | None]], str]:
    def write_all(values: tuple[bytes | None, bytes | None, bytes | None]) -> str:
        host, agent, referer = values
        return f'{write(host)}, "user_agent": {write(agent)}, "referer": {write(referer)}'

    return write_all


def _secured(numbers: tuple[int | None, int | None]) -> str:
    version, cipher = numbers
    if version is None or cipher is None:
        return 'null, "cipher": null'
    return f'{quote(_tls_version(version))}, "cipher": {quote(_cipher(cipher))}'


def _quoted(text: str | None) -> str:
    if text is None:
        return "null"
    return quote(shorten(text)).replace("\x7f", "\\u007f")  # `quote` takes it for harmless


def _quoted_field(value: bytes | None) -> str:
    return "null" if value is None else _quoted(value.decode("latin-1"))


def _quick_field(value: bytes | None) -> str:
    return "null" if value is None else quote(value.decode())


_JSON_CAREFUL: Final[_Names] = {
    "carried": _carried(_quoted),
    "client": lambda address: quote(_of_tuple(_address)(address)),
    "field": _quoted_field,
    "method": _method,
    "no_tls": _NO_TLS,
    "quote": _quoted,
    "secured": _secured,
    "sent_by": _sent_by(_quoted_field),
    "text": lambda value: value.decode("latin-1"),
    "thousandths": _THOUSANDTHS,
    "trace_id": lambda traceparent: _quoted(read_trace_id(traceparent)),
    "word": _quoted,
}
_JSON_QUICK: Final[_Names] = _JSON_CAREFUL | {
    "carried": _remembered(_carried(_quoted)),
    "client": _remembered(lambda address: quote(_address(address))),
    "field": _quick_field,
    "quote": quote,
    "secured": _remembered(_secured),
    "sent_by": _remembered(_sent_by(_quick_field)),
    "text": bytes.decode,
    "word": _remembered(_quoted),
}
