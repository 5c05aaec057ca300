"""Settings: what each accepts, where they come from, who wins, and what an operator's mistake is told."""

import dataclasses
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core.config import DEFAULTS, SETTINGS, Config, check_together
from alphorn.core.errors import ConfigError
from alphorn.core.schema import Setting
from alphorn.core.settings import APP, as_toml, gather
from support.reference import PAGE, reference

BY_NAME = {setting.name: setting for setting in (APP, *SETTINGS)}


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder without a pyproject.toml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(doing: Callable[[], object]) -> str:
    """The one line that a mistake is told."""
    with pytest.raises(ConfigError) as caught:
        doing()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def from_file(text: str, name: str = "serve.toml") -> Config:
    Path(name).write_text(text, "utf-8")
    return gather({}, {}, name).config


# --- What each setting accepts


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("port", "0", 0),
        ("port", " 8080 ", 8080),
        ("max_head_bytes", "65536", 65536),
        ("max_head_bytes", "64KiB", 65536),
        ("ws_max_message", "1 mib", 1024**2),
        ("ws_max_message", "2GiB", 2 * 1024**3),
        ("head_timeout", "2.5", 2.5),
        ("head_timeout", "500ms", 0.5),
        ("keep_alive_timeout", "30s", 30.0),
        ("keep_alive_timeout", "5m", 300.0),
        ("keep_alive_timeout", "1h", 3600.0),
        ("hsts", "5m", 300),
        ("http1", "off", False),
        ("http1", "Yes", True),
        ("log_level", "DEBUG", "debug"),
        ("bind", "127.0.0.1:80, unix:/run/a.sock,", ("127.0.0.1:80", "unix:/run/a.sock")),
        ("bind", "", ()),
        ("certfile", "a.pem,b.pem", ("a.pem", "b.pem")),
        ("client_ca", "", None),
        ("server_header", "", ""),
        ("root_path", "/api/v1", "/api/v1"),
    ],
)
def test_a_text_becomes_a_value(name: str, text: str, value: object) -> None:
    read = BY_NAME[name].from_text(text, "here")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("port", "http", "--port: 'http' is not a whole number; write it like 8000"),
        ("port", "80.5", "--port: '80.5' is not a whole number; write it like 8000"),
        ("port", "٨٠", "--port: '٨٠' is not a whole number; write it like 8000"),
        ("port", "-1", "--port: -1 is too little; give 0 or more"),
        ("port", "65536", "--port: 65536 is too much; give 65535 or less"),
        ("head_timeout", "soon", "'soon' is not a number of seconds; write it like 30, 500ms or 5m"),
        ("hsts", "500ms", "'500ms' is not a number of seconds"),
        ("head_timeout", "inf", "'inf' is not a number of seconds"),
        ("head_timeout", "0", "--head-timeout: 0.0 is too little; give 0.1 or more"),
        ("ws_max_message", "16MB", "'16MB' is not a number of bytes; write it like 65536, 64KiB or 16MiB"),
        ("ws_max_message", "1.5MiB", "'1.5MiB' is not a number of bytes"),
        ("http1", "maybe", "'maybe' is neither true nor false"),
        ("loop", "uvlop", "'uvlop' is not one of auto, uvloop, asyncio; did you mean uvloop?"),
        ("root_path", "api", "--root-path: 'api' will not do; write it like '/api'"),
        ("root_path", "/api/", "'/api/' will not do"),
        ("host", "", "--host: '' will not do; write it like '127.0.0.1'"),
        ("server_header", "a\r\nset-cookie: b", r"'a\r\nset-cookie: b' will not do"),
    ],
)
def test_a_bad_text_is_told_the_cause_and_the_mend(name: str, text: str, message: str) -> None:
    setting = BY_NAME[name]
    assert message in refusal(lambda: setting.from_text(text, setting.flag))


@given(setting=st.sampled_from(list(BY_NAME.values())), text=st.text())
def test_any_text_is_a_value_or_one_line(setting: Setting, text: str) -> None:
    try:
        setting.check(setting.from_text(text, "here"), "here")
        message = "accepted"
    except ConfigError as error:
        message = str(error)
    assert len(message.splitlines()) == 1


@given(st.integers(1024, 10**12))
def test_a_size_is_read_as_it_is_written(size: int) -> None:
    setting = BY_NAME["ws_max_message"]
    assert setting.from_text(str(size), "") == size
    assert setting.from_text(f"{size}KiB", "") == size * 1024
    shown = dataclasses.replace(setting, default=size).default_text
    assert setting.from_text(shown, "") == size


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_each_default_is_written_as_it_is_read(setting: Setting) -> None:
    assert setting.from_text(setting.default_text, setting.flag) == setting.default
    assert setting.doc.endswith(".")


# --- The Python interface


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("port", "8000", "port: '8000' is not a whole number; write it like 8000"),
        ("port", True, "port: True is not a whole number"),
        ("port", 8000.0, "port: 8000.0 is not a whole number"),
        ("port", None, "port: None is not a whole number"),
        ("port", 10**400, "is too much; give 65535 or less"),
        ("graceful_timeout", float("nan"), "graceful_timeout: nan is not a number of seconds"),
        ("graceful_timeout", float("inf"), "graceful_timeout: inf is not a number of seconds"),
        ("http1", 1, "http1: 1 is neither true nor false"),
        ("loop", None, "loop: None is not one of auto, uvloop, asyncio"),
        ("bind", (8000,), "bind: (8000,) is not a tuple of texts"),
        ("bind", ("",), "bind: ('',) is not a tuple of texts"),
        ("certfile", Path("cert.pem"), "is not a tuple of texts"),
        ("client_ca", Path("ca.pem"), "is not a text; put it in quotes"),
        ("client_ca", "", "client_ca: '' is empty; leave it out instead"),
    ],
)
def test_python_is_held_to_the_same_types(name: str, value: object, message: str) -> None:
    arguments: dict[str, Any] = {name: value}
    assert message in refusal(lambda: Config(**arguments))


def test_a_whole_number_of_seconds_is_a_number_of_seconds() -> None:
    assert Config(graceful_timeout=5).graceful_timeout == 5


def test_a_secret_is_in_no_repr_and_in_no_error() -> None:
    config = Config(certfile=("cert.pem",), keyfile_password="hunter2")
    assert "hunter2" not in repr(config)
    wrong: Any = b"hunter2"
    assert "hunter2" not in refusal(lambda: Config(certfile=("cert.pem",), keyfile_password=wrong))


def test_a_single_text_stands_for_a_tuple_of_one() -> None:
    arguments: dict[str, Any] = {"bind": ":8000", "certfile": "cert.pem", "keyfile": ""}
    config = Config(**arguments)
    assert (config.bind, config.certfile, config.keyfile) == ((":8000",), ("cert.pem",), ())
    assert config == Config(bind=(":8000",), certfile=("cert.pem",))
    assert from_file('bind = "a,b"').bind == ("a,b",)


# --- What does not go together


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bind": (":80",), "port": 81}, "port cannot stand beside bind, which names the port itself: drop port"),
        ({"bind": (":80",), "host": "::1"}, "host cannot stand beside bind, which names the host itself: drop host"),
        ({"dev_tls": True, "certfile": "c"}, "certfile cannot stand beside dev_tls"),
        ({"dev_tls": True, "keyfile": "k"}, "keyfile cannot stand beside dev_tls"),
        ({"dev_tls": True, "keyfile_password": "p"}, "keyfile_password cannot stand beside dev_tls"),
        ({"dev_tls": True, "keyfile_password_file": "p"}, "keyfile_password_file cannot stand beside dev_tls"),
        (
            {"certfile": "c", "keyfile_password": "p", "keyfile_password_file": "p"},
            "keyfile_password cannot stand beside keyfile_password_file, which has the password as well",
        ),
        ({"dev_tls": True, "hsts": 60}, "hsts cannot stand beside dev_tls, for browsers would demand https"),
        (
            {"redirect_bind": ":80"},
            "redirect_bind is of no use without certfile or dev_tls: add certfile or dev_tls",
        ),
        (
            {"certfile": "c", "redirect_port": 443},
            "redirect_port is of no use without redirect_bind: add redirect_bind",
        ),
        ({"keyfile": "k"}, "keyfile is of no use without certfile: add certfile"),
        ({"keyfile_password": "p"}, "keyfile_password is of no use without certfile: add certfile"),
        (
            {"certfile": ("a", "b"), "keyfile": "k"},
            "keyfile and certfile do not name as many files (1 and 2): name a key for each certificate",
        ),
        ({"certfile": "c", "client_ca": "a"}, "client_ca is of no use without client_auth: add client_auth"),
        ({"certfile": "c", "client_crl": "a"}, "client_crl is of no use without client_auth: add client_auth"),
        ({"certfile": "c", "client_auth": "required"}, "client_auth is of no use without client_ca: add client_ca"),
        (
            {"client_auth": "required", "client_ca": "a"},
            "client_auth is of no use without certfile or dev_tls: add certfile or dev_tls",
        ),
        ({"http1": False, "h2c": False}, "http1 and h2c leave no protocol to serve without TLS"),
        (
            {"http1": False, "http2": False, "dev_tls": True},
            "http1 and http2 leave no protocol to serve with TLS: drop one of them",
        ),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(settings: dict[str, Any], message: str) -> None:
    assert message in refusal(lambda: Config(**settings))


@pytest.mark.parametrize(
    "settings",
    [
        {"bind": (":0",)},
        {"certfile": "c"},
        {"certfile": "c", "keyfile": "k", "keyfile_password": "p"},
        {"certfile": ("a", "b"), "keyfile": ("a", "b")},
        {"certfile": ("a", "b")},
        {"dev_tls": True, "redirect_bind": ":80", "redirect_port": 443},
        {"certfile": "c", "hsts": 60},
        {"hsts": 60},
        {"dev_tls": True, "client_auth": "optional", "client_ca": "a", "client_crl": "c"},
        {"http1": False},
        {"http1": False, "http2": False},
        {"http2": False, "h2c": False},
        {"http1": False, "h2c": False, "certfile": "c"},
    ],
)
def test_what_goes_together_is_accepted(settings: dict[str, Any]) -> None:
    Config(**settings)


def test_port_0_counts_as_given_beside_bind() -> None:
    assert "drop port" in refusal(lambda: check_together({"bind": (":80",), "port": 0}))


def test_a_conflict_is_told_in_the_operators_words() -> None:
    flags = {"bind": (":80",)}
    assert refusal(lambda: gather(flags, {"SERVE_PORT": "8000"})) == (
        "SERVE_PORT cannot stand beside --bind, which names the port itself: drop SERVE_PORT"
    )
    assert refusal(lambda: gather({"http1": False}, {"SERVE_H2C": "no"})) == (
        "--no-http1 and SERVE_H2C leave no protocol to serve without TLS: drop one of them"
    )
    Path("serve.toml").write_text('keyfile = "key.pem"', "utf-8")
    assert refusal(lambda: gather({}, {}, "serve.toml")) == (
        "keyfile in serve.toml is of no use without --certfile: add --certfile"
    )


# --- Who wins


def test_a_flag_beats_a_variable_a_variable_a_file_a_file_the_default() -> None:
    Path("serve.toml").write_text("backlog = 1\nmax-fields = 1\nmax-streams = 1", "utf-8")
    environment = {"SERVE_BACKLOG": "2", "SERVE_MAX_FIELDS": "2"}
    settings = gather({"backlog": "3"}, environment, "serve.toml")
    config = settings.config
    assert (config.backlog, config.max_fields, config.max_streams, config.port) == (3, 2, 1, 8000)
    assert settings.labels == {
        "backlog": "--backlog",
        "max_fields": "SERVE_MAX_FIELDS",
        "max_streams": "max-streams in serve.toml",
    }


CERTIFICATE: dict[str, object] = {"certfile": ("c",)}
COMPANIONS: dict[str, dict[str, object]] = {
    "keyfile": CERTIFICATE,
    "keyfile_password": CERTIFICATE,
    "keyfile_password_file": CERTIFICATE,
    "client_auth": CERTIFICATE | {"client_ca": "a"},
    "client_ca": CERTIFICATE | {"client_auth": "required"},
    "client_crl": CERTIFICATE | {"client_auth": "required", "client_ca": "a"},
    "redirect_bind": CERTIFICATE,
    "clear_bind": CERTIFICATE,
    "redirect_port": CERTIFICATE | {"redirect_bind": (":80",)},
    "reload_dir": {"reload": True},
    "reload_exclude": {"reload": True},
    "reload_include": {"reload": True},
    "static_dotfiles": {"static": ("/a=b",)},
}
"""What some settings are of no use without, as flags."""


def other_text(setting: Setting) -> str:
    """A text that is not the default."""
    if setting.kind is bool:
        return "off" if setting.default else "on"
    if setting.choices:
        return setting.choices[-1]
    if setting.kind in (int, float):
        more = setting.default + 1
        return str(more if setting.at_most is None or more <= setting.at_most else setting.at_most)
    return "/other" if re.fullmatch(setting.pattern or ".*", "/other") else setting.example


@pytest.mark.parametrize("setting", [APP, *SETTINGS], ids=lambda setting: setting.name)
def test_every_setting_can_be_a_flag_a_variable_and_a_key(setting: Setting) -> None:
    text = other_text(setting)
    value = setting.from_text(text, "")
    needed = COMPANIONS.get(setting.name, {})
    flag = gather({**needed, setting.name: value if setting.kind in (bool, tuple) else text}, {})
    variable = gather(needed, {setting.variable: text})
    key = f"{setting.key} = {toml(value)}"
    Path("serve.toml").write_text(key, "utf-8")
    file = gather(needed, {}, "serve.toml")
    assert flag.config == variable.config == file.config
    assert flag.app == variable.app == file.app
    effective = flag.app if setting is APP else getattr(flag.config, setting.name)
    assert effective == value


def toml(value: object) -> str:
    if isinstance(value, tuple):
        return repr(list(value))
    return repr(value).lower() if isinstance(value, bool) else repr(value)


def test_a_switch_that_is_off_has_its_own_flag_in_messages() -> None:
    assert gather({"http2": False}, {}).labels["http2"] == "--no-http2"


def test_an_empty_flag_takes_back_what_a_file_says() -> None:
    Path("serve.toml").write_text('certfile = "cert.pem"', "utf-8")
    assert gather({"certfile": ("",)}, {}, "serve.toml").config.certfile == ()
    Path("serve.toml").write_text('root-path = "/api"', "utf-8")
    assert gather({"root_path": ""}, {}, "serve.toml").config.root_path == ""


# --- Files


def test_both_spellings_of_a_key_are_read() -> None:
    assert from_file("max-fields = 7").max_fields == 7
    assert from_file("max_fields = 7").max_fields == 7


def test_a_key_in_both_spellings_is_refused() -> None:
    message = refusal(lambda: from_file("max-fields = 7\nmax_fields = 8"))
    assert message == "max_fields in serve.toml says the same as max-fields in serve.toml; drop one of them"


def test_sizes_and_times_may_carry_their_unit_in_a_file() -> None:
    config = from_file('ws-max-message = "1MiB"\nhead-timeout = "500ms"\ngraceful-timeout = 5')
    assert (config.ws_max_message, config.head_timeout, config.graceful_timeout) == (1024**2, 0.5, 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 80", "prot in serve.toml: there is no such setting; did you mean port?"),
        ("xyzzy = 80", "xyzzy in serve.toml: there is no such setting; `serve --help` lists them all"),
        ('"a\\nb" = 80', r"'a\nb' in serve.toml: there is no such setting"),
        ('port = "80"', "port in serve.toml: '80' is not a whole number; write it like 8000"),
        ('http1 = "yes"', "http1 in serve.toml: 'yes' is neither true nor false"),
        ("bind = 80", """bind in serve.toml: 80 is not an array; write it like bind = ["..."]"""),
        ("bind = [80]", "bind in serve.toml: (80,) is not a tuple of texts"),
        ("client-ca = 1", "client-ca in serve.toml: 1 is not a text; put it in quotes"),
        ("tls-min = 1.3", "tls-min in serve.toml: 1.3 is not a text; put it in quotes"),
        ("head-timeout = nan", "head-timeout in serve.toml: nan is not a number of seconds"),
        ("port = 1979-05-27", "port in serve.toml: datetime.date(1979, 5, 27) is not a whole number"),
        ("[port]", "port in serve.toml: {} is not a whole number"),
        ("port 80", "serve.toml is not TOML: "),
    ],
)
def test_a_mistake_in_a_file_names_file_and_key(text: str, message: str) -> None:
    assert message in refusal(lambda: from_file(text))


def test_a_file_that_is_not_utf_8_is_not_toml() -> None:
    Path("serve.toml").write_bytes(b'app = "\xff"')
    assert "serve.toml is not TOML: " in refusal(lambda: gather({}, {}, "serve.toml"))


def test_a_missing_file_is_named_with_what_asked_for_it() -> None:
    assert refusal(lambda: gather({}, {}, "nosuch.toml")) == (
        "--config: cannot read nosuch.toml: No such file or directory; check the path"
    )
    assert refusal(lambda: gather({}, {"SERVE_CONFIG": "nosuch.toml"})).startswith(
        "SERVE_CONFIG: cannot read"
    )


def test_the_variable_names_a_file_and_the_flag_wins() -> None:
    Path("one.toml").write_text("port = 1", "utf-8")
    Path("two.toml").write_text("port = 2", "utf-8")
    assert gather({}, {"SERVE_CONFIG": "one.toml"}).config.port == 1
    assert gather({}, {"SERVE_CONFIG": "one.toml"}, "two.toml").config.port == 2
    assert gather({}, {"SERVE_CONFIG": ""}).config.port == 8000


def test_serve_toml_is_not_read_unasked() -> None:
    Path("serve.toml").write_text("port = 1", "utf-8")
    assert gather({}, {}).config.port == 8000


def test_tool_serve_in_pyproject_is_read_unasked() -> None:
    Path("pyproject.toml").write_text('[project]\nname = "x"\n[tool.serve]\napp = "x:app"\nport = 1', "utf-8")
    settings = gather({}, {})
    assert (settings.app, settings.config.port) == ("x:app", 1)
    assert settings.labels["port"] == "tool.serve.port in pyproject.toml"


def test_another_pyproject_can_be_asked_for() -> None:
    Path("sub").mkdir()
    assert from_file("[tool.serve]\nport = 1", "sub/pyproject.toml").port == 1


def test_another_file_replaces_pyproject() -> None:
    Path("pyproject.toml").write_text("[tool.serve]\nport = 1\nmax-fields = 1", "utf-8")
    config = from_file("port = 2")
    assert (config.port, config.max_fields) == (2, DEFAULTS["max_fields"])


@pytest.mark.parametrize("text", ["", "[tool]", "[tool.other]", "tool = 1"])
def test_a_pyproject_without_our_table_matters_only_when_asked_for(text: str) -> None:
    Path("pyproject.toml").write_text(text, "utf-8")
    assert gather({}, {}).config == Config()
    assert refusal(lambda: gather({}, {}, "pyproject.toml")) == (
        "--config: pyproject.toml has no table [tool.serve]; add it"
    )


def test_tool_serve_that_is_no_table_is_refused() -> None:
    Path("pyproject.toml").write_text("[tool]\nserve = 1", "utf-8")
    assert "tool.serve in pyproject.toml is not a table" in refusal(lambda: gather({}, {}))


# --- Variables


def test_an_unknown_variable_is_refused_with_the_nearest_name() -> None:
    assert refusal(lambda: gather({}, {"SERVE_PROT": "1"})) == (
        "SERVE_PROT: there is no such setting; did you mean SERVE_PORT?"
    )
    assert refusal(lambda: gather({}, {"SERVE_QQQQQQQQQQQQQQQQQQQ": "1"})).endswith(
        "no such setting; unset it"
    )


def test_other_variables_are_nobodys_business() -> None:
    assert gather({}, {"SERVER_NAME": "x", "PORT": "1", "_SERVE_COMPLETE": "x"}).config == Config()


# --- Printing


def test_the_print_names_the_origin_of_each_value() -> None:
    settings = gather({"app": "m:app", "http2": False}, {"SERVE_LOG_LEVEL": "debug"})
    lines = as_toml(settings).splitlines()
    assert 'app = "m:app"  # APP' in lines
    assert "http2 = false  # --no-http2" in lines
    assert 'log-level = "debug"  # SERVE_LOG_LEVEL' in lines
    assert "port = 8000  # default" in lines


def test_the_print_masks_secrets() -> None:
    settings = gather({"certfile": ("c",)}, {"SERVE_KEYFILE_PASSWORD": "hunter2"})
    text = as_toml(settings)
    assert "hunter2" not in text
    assert '# keyfile-password = "***"  # SERVE_KEYFILE_PASSWORD' in text
    assert "keyfile-password" not in tomllib.loads(text)


def test_the_print_says_that_bind_replaces_host_and_port() -> None:
    lines = as_toml(gather({"bind": (":80",)}, {})).splitlines()
    assert 'bind = [":80"]  # --bind' in lines
    assert "# port = 8000  # replaced by --bind" in lines


def test_a_path_that_is_not_utf_8_is_shown_as_far_as_it_can_be() -> None:
    printed = tomllib.loads(as_toml(gather({"certfile": ("\udcff.pem",)}, {})))
    assert printed["certfile"] == ["?.pem"]


def values(setting: Setting) -> st.SearchStrategy[Any]:
    """Every value of a setting, as a flag gives it."""
    if setting.choices:
        return st.sampled_from(setting.choices)
    if setting.kind is bool:
        return st.booleans()
    if setting.kind is int:
        return st.integers(int(setting.at_least or 0), int(setting.at_most or 10**12)).map(str)
    if setting.kind is float:
        return st.floats(setting.at_least, setting.at_most or 1e6).map(lambda number: f"{number:.6f}")
    if setting.kind is tuple:
        return st.lists(st.text(min_size=1), min_size=1).map(tuple)
    return st.from_regex(setting.pattern, fullmatch=True) if setting.pattern else st.text()


@given(
    st.fixed_dictionaries(
        {},
        optional={
            setting.name: values(setting)
            for setting in (APP, *SETTINGS)
            if setting.name
            not in ("host", "port", "dev_tls", "h2c", "http1", "reload", "access_log_format", *COMPANIONS)
        },
    )
)
def test_what_is_printed_reads_back_as_the_same(flags: dict[str, object]) -> None:
    settings = gather(flags, {})
    Path("printed.toml").write_text(as_toml(settings), "utf-8")
    again = gather({}, {}, "printed.toml")
    assert (again.app, again.config) == (settings.app, settings.config)


# --- The reference page


def test_the_reference_is_in_step_with_the_schema() -> None:
    assert PAGE.read_text("utf-8") == reference(), "run python tests/support/reference.py"


def test_the_example_in_the_reference_is_accepted() -> None:
    example = reference().partition("```toml\n")[2].partition("```")[0]
    assert from_file(example).ws_max_message == 1024**2
