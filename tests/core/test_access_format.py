"""What a line of the access log says: every atom, JSON, and what never gets into a line."""

import functools
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core.access_format import DEFAULT, Describe, compile_format, has_time, json_format
from alphorn.core.asgi import Scope
from alphorn.core.errors import ConfigError
from alphorn.core.outcome import Outcome
from support.outcomes import NamedOutcome

COMBINED = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SCOPE: Scope = {
    "type": "http",
    "http_version": "2",
    "method": "GET",
    "scheme": "https",
    "raw_path": b"/a%20b",
    "query_string": b"q=1",
    "client": ("2001:db8::1", 4711),
    "headers": [
        (b"host", b"example.org"),
        (b"user-agent", b"horn/1"),
        (b"referer", b"https://example.org/"),
        (b"authorization", b"Basic aGVpZGk6Z2VoZWlt"),
        (b"x-request-id", b"abc-1"),
        (b"traceparent", TRACE),
    ],
    "extensions": {"tls": {"tls_version": 0x0304, "cipher_suite": 0x1301}},
}
OUTCOME = NamedOutcome(SCOPE, 201, [(b"content-type", b"text/plain")], 5120, 1.2345678, 0.0, 3)
UNREAD = NamedOutcome(
    {"client": ("192.0.2.1", 5), "scheme": "http", "extensions": {}}, 400, [], 11, None, 0.0, 0
)


def unix_time_at(moment: float) -> float:
    return 1763798057.1239 + moment


@functools.cache
def in_lines(text: str) -> Describe:
    return compile_format(text, unix_time_at)


@functools.cache
def in_json() -> Describe:
    return json_format(unix_time_at)


def line(text: str, outcome: Outcome = OUTCOME) -> str:
    (made,) = in_lines(text)([outcome])
    return made


def json_line(outcome: Outcome) -> str:
    (made,) = in_json()([outcome])
    return made


@pytest.mark.parametrize(
    ("atom", "text", "unread"),
    [
        ("h", "2001:db8::1", "192.0.2.1"),
        ("l", "-", "-"),
        ("u", "heidi", "-"),
        ("r", "GET /a%20b?q=1 HTTP/2", "-"),
        ("m", "GET", "-"),
        ("U", "/a%20b", "-"),
        ("q", "q=1", "-"),
        ("H", "HTTP/2", "-"),
        ("s", "201", "400"),
        ("B", "5120", "11"),
        ("b", "5120", "11"),
        ("f", "https://example.org/", "-"),
        ("a", "horn/1", "-"),
        ("T", "1", "-"),
        ("M", "1234", "-"),
        ("D", "1234567", "-"),
        ("L", "1.234568", "-"),
        ("client", "[2001:db8::1]:4711", "192.0.2.1:5"),
        ("scheme", "https", "http"),
        ("type", "http", "-"),
        ("stream", "3", "-"),
        ("tls", "TLSv1.3", "-"),
        ("cipher", "TLS_AES_128_GCM_SHA256", "-"),
        ("id", "abc-1", "-"),
        ("trace", "4bf92f3577b34da6a3ce929d0e0e4736", "-"),
        ("duration", "1234.6ms", "-"),
        ("{Host}i", "example.org", "-"),
        ("{x-none}i", "-", "-"),
        ("{Content-Type}o", "text/plain", "-"),
        ("{SOME_VARIABLE}e", "its value", "its value"),
        ("{%Y}t", "2025", "2025"),
        ("time", "2025-11-22T07:54:17.123Z", "2025-11-22T07:54:17.123Z"),
    ],
)
def test_each_atom_says_its_part(monkeypatch: pytest.MonkeyPatch, atom: str, text: str, unread: str) -> None:
    monkeypatch.setenv("SOME_VARIABLE", "its value")
    assert line(f"%({atom})s") == text
    assert line(f"100%% [%({atom})d]") == f"100% [{text}]"
    assert line(f"%({atom})s", UNREAD) == unread


def test_the_combined_format_of_apache_is_what_its_readers_expect() -> None:
    when = time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(unix_time_at(0)))
    assert line(COMBINED) == (
        f'2001:db8::1 - heidi {when} "GET /a%20b?q=1 HTTP/2" 201 5120 "https://example.org/" "horn/1"'
    )


def test_a_request_without_an_answer_has_no_status() -> None:
    outcome = OUTCOME._replace(status=0, length=0)
    assert line("%(s)s %(B)s %(b)s", outcome) == "- 0 -"
    assert json.loads(json_line(outcome))["status"] is None


@pytest.mark.parametrize(("version", "method"), [("1.1", "GET"), ("2", "CONNECT")])
def test_a_websocket_has_the_method_of_its_handshake(version: str, method: str) -> None:
    scope = {name: value for name, value in SCOPE.items() if name != "method"}
    scope |= {"type": "websocket", "http_version": version}
    outcome = OUTCOME._replace(scope=scope)
    assert line("%(type)s %(r)s", outcome) == f"websocket {method} /a%20b?q=1 HTTP/{version}"
    assert json.loads(json_line(outcome))["method"] == method


@pytest.mark.parametrize(
    ("credentials", "name"),
    [
        (b"Basic !!!", "-"),
        (b"Bearer aGVpZGk6Z2VoZWlt", "-"),
        (b"basic aGVpZGk=", "heidi"),
        (b"Basic CgpmOng=", r"\x0a\x0af"),
        (b"Basic Og==", "-"),
    ],
)
def test_a_user_is_who_authenticates_by_a_name(credentials: bytes, name: str) -> None:
    assert (
        line("%(u)s", OUTCOME._replace(scope=SCOPE | {"headers": [(b"authorization", credentials)]})) == name
    )


def test_the_time_is_that_of_each_line() -> None:
    describe = compile_format("%(time)s %({%S}t)s", unix_time_at)
    assert describe([OUTCOME, OUTCOME._replace(ended_at=1.5)]) == [
        "2025-11-22T07:54:17.123Z 17",
        "2025-11-22T07:54:18.623Z 18",
    ]


@pytest.mark.parametrize(
    ("text", "has"), [(DEFAULT, False), (COMBINED, True), ("%({%s}t)s", True), ("%(time)s", True)]
)
def test_whether_a_format_has_the_time_is_known(text: str, has: bool) -> None:
    assert has_time(text) == has


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("%(statuss)s", "there is no atom %(statuss)s; docs/logging.md lists them"),
        ("%(streem)s", "there is no atom %(streem)s; did you mean stream?"),
        ("%({x}z)s", "there is no %({x}z)s; there are %({...}i)s, %({...}o)s, %({...}e)s, %({...}t)s"),
        ("%h %l", "'%h %l' is no atom; write one like %(h)s, and %% for a percent sign"),
        ("100%", "'%' is no atom; write one like %(h)s, and %% for a percent sign"),
    ],
)
def test_an_unknown_atom_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compile_format(text, unix_time_at)
    assert str(raised.value) == f"--access-log-format: {complaint}"


# ---------------------------------------------------------------------- JSON


def test_json_has_every_member_each_time() -> None:
    told = json.loads(json_line(OUTCOME))
    assert told == {
        "time": "2025-11-22T07:54:17.123Z",
        "client": "[2001:db8::1]:4711",
        "method": "GET",
        "path": "/a%20b",
        "query": "q=1",
        "protocol": "HTTP/2",
        "type": "http",
        "scheme": "https",
        "status": 201,
        "bytes": 5120,
        "duration_ms": 1234.568,
        "stream": 3,
        "tls": "TLSv1.3",
        "cipher": "TLS_AES_128_GCM_SHA256",
        "host": "example.org",
        "user_agent": "horn/1",
        "referer": "https://example.org/",
        "request_id": "abc-1",
        "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    }
    unread = json.loads(json_line(UNREAD))
    assert unread.keys() == told.keys()
    assert {name for name, value in unread.items() if value is not None} == {
        "time", "client", "scheme", "status", "bytes"
    }  # fmt: skip


# ---------------------------------------------------------------------- whatever is in a scope

EVERYTHING = (
    f"{COMBINED} %(m)s %(U)s %(q)s %(H)s %(client)s %(scheme)s %(type)s %(tls)s %(cipher)s %(id)s %(trace)s"
)
ANYTHING = st.one_of(st.none(), st.integers(), st.text(), st.binary(), st.lists(st.binary(), max_size=3))
SPOILT = st.fixed_dictionaries({name: st.one_of(ANYTHING, st.just(value)) for name, value in SCOPE.items()})


@given(SPOILT, st.binary(), st.binary())
def test_no_scope_keeps_a_line_from_being_one_line_of_printable_text(
    scope: Scope, path: bytes, agent: bytes
) -> None:
    outcomes = [
        OUTCOME,
        OUTCOME._replace(scope=scope),
        OUTCOME._replace(scope=SCOPE | {"raw_path": path, "headers": [(b"user-agent", agent)]}),
        UNREAD,
    ]
    lines = in_lines(EVERYTHING)(outcomes)
    objects = in_json()(outcomes)
    assert all(text.isascii() and text.isprintable() for text in lines + objects)
    assert all(len(json.loads(text)) == 19 for text in objects)
    assert lines == [line(EVERYTHING, outcome) for outcome in outcomes], "whatever its neighbours are"
    assert objects == [json_line(outcome) for outcome in outcomes]


ODD = OUTCOME._replace(scope=SCOPE | {"raw_path": b'/"\x7f'})


@pytest.mark.parametrize("outcome", [OUTCOME, UNREAD])
@pytest.mark.parametrize(
    "atom", ["h", "u", "m", "q", "H", "s", "b", "f", "T", "L", "client", "tls", "cipher", "trace", "duration"]
)
def test_a_line_in_which_something_is_escaped_says_the_rest_as_any_other(
    outcome: NamedOutcome, atom: str
) -> None:
    odd = outcome._replace(scope=outcome.scope | {"raw_path": b'/"\x7f'})
    assert line(f"%(U)s %({atom})s", odd) == rf"/\x22\x7f {line(f'%({atom})s', outcome)}"


def test_an_object_in_which_something_is_escaped_says_the_rest_as_any_other() -> None:
    assert json.loads(json_line(ODD)) == json.loads(json_line(OUTCOME)) | {"path": '/"\x7f'}
    assert r'"/\"\u007f"' in json_line(ODD)


@pytest.mark.parametrize("text", ['"%(U)s" \\ %%', "%(U)s\t%(s)s", "%(U)s für alle"])
def test_what_the_operator_has_written_is_not_escaped(text: str) -> None:
    own = text.replace("%(s)s", "201").replace("%%", "%")
    assert line(text) == own.replace("%(U)s", "/a%20b")
    assert line(text, ODD) == own.replace("%(U)s", r"/\x22\x7f")


def test_a_request_line_cannot_forge_another_and_is_cut() -> None:
    forged = SCOPE | {"raw_path": b"/\x1b]0;title\x07\n", "query_string": b'\r\n127.0.0.1 "forged"'}
    assert line("%(r)s", OUTCOME._replace(scope=forged)) == (
        r"GET /\x1b]0;title\x07\x0a?\x0d\x0a127.0.0.1 \x22forged\x22 HTTP/2"
    )
    long = SCOPE | {"raw_path": b"/" + b"x" * 10_000, "query_string": b""}
    assert line("%(r)s", OUTCOME._replace(scope=long)) == "GET /" + "x" * 1999 + "... HTTP/2"
