"""What a line of the access log says: a format string, or JSON, made once into a function of an `Outcome`.

The atoms are those of Gunicorn and Hypercorn, which have theirs from Apache, and a few of our own.
Whatever a peer wrote is escaped. Whatever an application has done to its scope, there is a line: what
cannot be told is "-", in JSON null.
"""

import base64
import binascii
import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from json.encoder import encode_basestring_ascii as quote
from typing import Any, Final, TypeAlias

from .asgi import Fields, Scope
from .errors import ConfigError
from .log import LONGEST_TEXT, escape, format_address, is_safe, shorten
from .outcome import Outcome
from .request_ids import read_trace_id
from .schema import nearest

DEFAULT: Final = '%(client)s "%(r)s" %(s)s %(B)s %(duration)s'

Describe: TypeAlias = Callable[[Outcome], str]
"""Makes a line, without its end, of what became of a request."""

_Getter: TypeAlias = Callable[[Outcome], object]
_UnixTimeAt: TypeAlias = Callable[[float], float]

_ATOM: Final = re.compile(
    r"%(?:\((?:\{(?P<argument>[^{}]*)\})?(?P<name>\w*)\)[sd]|(?P<percent>%))|(?P<bad>%)"
)
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
    getters: list[_Getter] = []

    def compile_atom(atom: re.Match[str]) -> str:
        if atom["percent"]:
            return "%%"
        if atom["bad"]:
            where = text[atom.start() : atom.start() + 12]
            raise ConfigError(
                f"--access-log-format: {where!r} is no atom; write one like %(h)s, and %% for a percent sign"
            )
        getters.append(_getter(atom["name"], atom["argument"], unix_time_at))
        return "%s"

    template = _ATOM.sub(compile_atom, text)

    def describe(outcome: Outcome) -> str:
        try:
            return template % tuple([get(outcome) for get in getters])
        except Exception:  # noqa: BLE001 - by now the scope is the application's
            return template % tuple([_guarded(get, outcome) for get in getters])

    return describe


def _guarded(get: _Getter, outcome: Outcome) -> object:
    try:
        return get(outcome)
    except Exception:  # noqa: BLE001 - see above
        return "-"


def _getter(name: str, argument: str | None, unix_time_at: _UnixTimeAt) -> _Getter:
    if argument is not None:
        if name in _WITH_ARGUMENT:
            return _WITH_ARGUMENT[name](argument, unix_time_at)
        known = ", ".join(f"%({{...}}{each})s" for each in _WITH_ARGUMENT)
        raise ConfigError(f"--access-log-format: there is no %({{{argument}}}{name})s; there are {known}")
    if name in _TIMES:
        return _TIMES[name](unix_time_at)
    if name in _ATOMS:
        return _ATOMS[name]
    meant = nearest(name, [*_ATOMS, *_TIMES]) or "; docs/logging.md lists them"
    raise ConfigError(f"--access-log-format: there is no atom %({name})s{meant}")


# ---------------------------------------------------------------------- time


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


def _strftime(pattern: str, unix_time_at: _UnixTimeAt) -> _Getter:
    write = local_time(pattern)
    return lambda outcome: write(unix_time_at(outcome.ended_at))


def _iso_time(unix_time_at: _UnixTimeAt) -> Callable[[Outcome], str]:
    """Return a getter of the time in UTC, with milliseconds (RFC 3339)."""
    write = _by_second(lambda second: time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))

    def get(outcome: Outcome) -> str:
        seconds = unix_time_at(outcome.ended_at)
        return f"{write(seconds)}.{int(seconds % 1 * 1000):03d}Z"

    return get


# ---------------------------------------------------------------------- who asked for what


@functools.lru_cache(1024)
def _address(address: Any) -> str:
    return escape(format_address(address))  # middleware may have put anything there


def _client(outcome: Outcome) -> str:
    address = outcome.scope["client"]
    return _address(tuple(address)) if address else "-"


def _host(outcome: Outcome) -> str:
    address = outcome.scope["client"]
    return escape(address[0]) if address else "-"


def _method(outcome: Outcome) -> str:
    return escape(_method_of(outcome.scope))


def _method_of(scope: Scope) -> str:
    """Return the method; a websocket scope has none: it was a GET (RFC 6455, 4.1) or a CONNECT (RFC 8441, 4)."""
    method: str | None = scope.get("method")
    return method or ("GET" if scope["http_version"] == "1.1" else "CONNECT")


def _request_line(outcome: Outcome) -> str:
    scope = outcome.scope
    method, target, query = scope.get("method"), scope["raw_path"], scope["query_string"]
    if query:
        target = target + b"?" + query
    line = f"{method or _method_of(scope)} {target.decode('latin-1')} HTTP/{scope['http_version']}"
    if is_safe(line) and len(line) <= LONGEST_TEXT:
        return line
    target = escape(target.decode("latin-1"))
    return f"{escape(_method_of(scope))} {target} HTTP/{escape(scope['http_version'])}"


def _path(outcome: Outcome) -> str:
    return escape(outcome.scope["raw_path"].decode("latin-1"))


def _query(outcome: Outcome) -> str:
    return escape(outcome.scope["query_string"].decode("latin-1"))


def _protocol(outcome: Outcome) -> str:
    return escape(f"HTTP/{outcome.scope['http_version']}")


def _user(outcome: Outcome) -> str:
    """Return the name of HTTP Basic authentication (RFC 7617), whoever may have checked it."""
    scheme, _, token = (_find(outcome.scope["headers"], b"authorization") or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return "-"
    try:
        name = base64.b64decode(token, validate=True).partition(b":")[0]
    except binascii.Error:
        return "-"
    return escape(name.decode(errors="replace")) or "-"


def _find(fields: Fields, name: bytes) -> bytes | None:
    for each, value in fields:
        if each == name:
            return value
    return None


def _text(value: bytes | None) -> str:
    return "-" if value is None else escape(value.decode("latin-1"))


def _request_field(name: str, _: _UnixTimeAt | None = None) -> _Getter:
    key = name.lower().encode()
    return lambda outcome: _text(_find(outcome.scope["headers"], key))


def _answer_field(name: str, _: _UnixTimeAt) -> _Getter:
    key = name.lower().encode()
    return lambda outcome: _text(_find(outcome.fields, key))


def _variable(name: str, _: _UnixTimeAt) -> _Getter:
    value = os.environ.get(name, "-")
    return lambda _: value


def _trace_id(outcome: Outcome) -> str | None:
    return read_trace_id(_find(outcome.scope["headers"], b"traceparent"))


# ---------------------------------------------------------------------- how it was carried


def _tls_version(outcome: Outcome) -> str | None:
    tls = outcome.scope["extensions"].get("tls")
    return tls and (_TLS_VERSIONS.get(tls["tls_version"]) or str(tls["tls_version"]))


def _cipher(outcome: Outcome) -> str | None:
    tls = outcome.scope["extensions"].get("tls")
    return tls and (_CIPHERS.get(tls["cipher_suite"]) or str(tls["cipher_suite"]))


# ---------------------------------------------------------------------- what became of it


def _seconds(scale: float, pattern: str) -> _Getter:
    def get(outcome: Outcome) -> str:
        seconds = outcome.seconds
        return "-" if seconds is None else pattern % (seconds * scale)

    return get


_ATOMS: Final[dict[str, _Getter]] = {
    "h": _host,
    "l": lambda _: "-",
    "u": _user,
    "r": _request_line,
    "m": _method,
    "U": _path,
    "q": _query,
    "H": _protocol,
    "s": lambda outcome: outcome.status or "-",
    "B": lambda outcome: outcome.length,
    "b": lambda outcome: outcome.length or "-",
    "f": _request_field("referer"),
    "a": _request_field("user-agent"),
    "T": _seconds(1, "%d"),
    "M": _seconds(1000, "%d"),
    "D": _seconds(1_000_000, "%d"),
    "L": _seconds(1, "%.6f"),
    "p": lambda _: os.getpid(),
    "client": _client,
    "scheme": lambda outcome: escape(outcome.scope["scheme"]),
    "type": lambda outcome: escape(outcome.scope["type"]),
    "stream": lambda outcome: outcome.stream_id or "-",
    "tls": lambda outcome: _tls_version(outcome) or "-",
    "cipher": lambda outcome: _cipher(outcome) or "-",
    "id": _request_field("x-request-id"),
    "trace": lambda outcome: _trace_id(outcome) or "-",
    "duration": _seconds(1000, "%.1fms"),
}
_TIMES: Final[dict[str, Callable[[_UnixTimeAt], _Getter]]] = {
    "t": functools.partial(_strftime, "[%d/%b/%Y:%H:%M:%S %z]"),
    "time": _iso_time,
}
_WITH_ARGUMENT: Final[dict[str, Callable[[str, _UnixTimeAt], _Getter]]] = {
    "i": _request_field,
    "o": _answer_field,
    "e": _variable,
    "t": _strftime,
}

# ---------------------------------------------------------------------- JSON


def json_format(unix_time_at: _UnixTimeAt) -> Describe:
    """Return a function that makes one JSON object of an outcome, always with the same members."""
    iso_time = _iso_time(unix_time_at)
    members: dict[str, _Getter] = {
        "client": lambda outcome: quote(_client(outcome)),
        "method": lambda outcome: quote(shorten(_method_of(outcome.scope))),
        "path": lambda outcome: _quoted(outcome.scope["raw_path"]),
        "query": lambda outcome: _quoted(outcome.scope["query_string"]),
        "protocol": lambda outcome: quote(f"HTTP/{outcome.scope['http_version']}"),
        "type": lambda outcome: quote(outcome.scope["type"]),
        "scheme": lambda outcome: quote(outcome.scope["scheme"]),
        "status": lambda outcome: outcome.status or "null",
        "bytes": lambda outcome: outcome.length,
        "duration_ms": lambda outcome: "null" if outcome.seconds is None else f"{outcome.seconds * 1000:.3f}",
        "stream": lambda outcome: outcome.stream_id or "null",
        "tls": lambda outcome: _quoted_or_null(_tls_version(outcome)),
        "cipher": lambda outcome: _quoted_or_null(_cipher(outcome)),
    }
    fields = {
        b"host": "host",
        b"user-agent": "user_agent",
        b"referer": "referer",
        b"x-request-id": "request_id",
    }
    start = f'{{"time": "%s", {", ".join(f"{quote(name)}: %s" for name in members)}'
    end = "".join(f", {quote(name)}: %s" for name in fields.values()) + ', "trace_id": %s}'
    getters = list(members.values())

    def read_fields(outcome: Outcome) -> Iterator[str]:
        found = {name: value for name, value in reversed(outcome.scope["headers"]) if name in fields}
        for name in fields:
            yield _quoted(found[name]) if name in found else "null"
        yield _quoted_or_null(_trace_id(outcome))

    def describe(outcome: Outcome) -> str:
        try:
            told = [get(outcome) for get in getters]
        except Exception:  # noqa: BLE001 - by now the scope is the application's
            told = [_guarded_json(get, outcome) for get in getters]
        try:
            said = tuple(read_fields(outcome))
        except Exception:  # noqa: BLE001 - likewise, or the head could not be read
            said = ("null",) * (len(fields) + 1)
        return (start + end) % (iso_time(outcome), *told, *said)

    return describe


def _guarded_json(get: _Getter, outcome: Outcome) -> object:
    try:
        return get(outcome)
    except Exception:  # noqa: BLE001 - see above
        return "null"


def _quoted(value: bytes) -> str:
    return quote(shorten(value).decode("latin-1"))


def _quoted_or_null(text: str | None) -> str:
    return "null" if text is None else quote(text)
