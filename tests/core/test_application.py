"""Finding the application that the operator named, and telling its kind."""

# ruff: noqa: ARG001, ARG005 - what the applications here do with their arguments is to have them

import functools
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from alphorn.core.application import adapt, load_application
from alphorn.core.asgi import Message, Receive, Scope, Send
from alphorn.core.config import Config
from alphorn.core.errors import ApplicationFailed, ConfigError
from alphorn.core.wsgi import WsgiApplication

SCOPE: Scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.5"}}
ASGI = "async def app(scope, receive, send): ..."


async def receive_nothing() -> Message:
    return {"type": "http.disconnect"}


async def send_nowhere(message: Message) -> None:
    pass


class Project:
    """A folder of source files; what is imported from it is forgotten after the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, source: str) -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)

    def load(self, target: str, **settings: Any) -> Any:
        return load_application(target, Config(**{"app_dir": str(self.folder), **settings}))

    def refusal(self, target: str, **settings: Any) -> str:
        """Load what cannot be loaded and return the one line that says why."""
        with pytest.raises(ConfigError) as refused:
            self.load(target, **settings)
        assert not isinstance(refused.value, ApplicationFailed)
        message = str(refused.value)
        assert "\n" not in message
        return message

    def failure(self, target: str, **settings: Any) -> ApplicationFailed:
        """Load what raises and return how it surfaced."""
        with pytest.raises(ApplicationFailed) as failed:
            self.load(target, **settings)
        assert "\n" not in str(failed.value)
        assert "core/application.py" not in failed.value.trace
        assert "importlib" not in failed.value.trace
        return failed.value


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield Project(tmp_path.resolve())
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is None or file.startswith(str(tmp_path.resolve())):
            del sys.modules[name]


# --- Finding it


def test_an_attribute_of_a_module_is_loaded(project: Project) -> None:
    project.write("site_a.py", ASGI)
    assert project.load("site_a:app") is sys.modules["site_a"].app


def test_an_attribute_of_an_attribute_of_a_nested_module_is_loaded(project: Project) -> None:
    project.write("shop/__init__.py", "")
    project.write("shop/web.py", f"class Holder:\n    @staticmethod\n    {ASGI}\n\nholder = Holder()\n")
    assert project.load("shop.web:holder.app") is sys.modules["shop.web"].Holder.app


def test_the_folder_is_resolved_and_comes_first(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.write("json.py", "")  # has the name of a standard module, which is imported already
    project.write("below/site_b.py", ASGI)
    monkeypatch.chdir(project.folder)
    project.load("site_b:app", app_dir="below")
    assert sys.path[0] == str(project.folder / "below")
    project.load("site_b:app", app_dir="below")
    assert sys.path.count(sys.path[0]) == 1


def test_a_missing_folder_is_refused(project: Project) -> None:
    missing = project.folder / "missing"
    assert project.refusal("site:app", app_dir=str(missing)).startswith(
        f"--app-dir {missing}: there is no folder"
    )


@pytest.mark.parametrize(
    ("target", "proposed"),
    [
        ("plain", "plain:app"),
        ("plain:", "plain:app"),
        ("plain.py", "plain:app"),
        ("named", "named:application"),
        ("imported", "imported:application"),
        ("package", "package:application"),
        ("package/inner.py", "package.inner:application"),
        ("package.inner.application", "package.inner:application"),
        ("broken", "broken:app"),
        ("nowhere", "nowhere:app"),
        (":app", "app:app"),
        (":", "main:app"),
    ],
)
def test_without_a_colon_the_likely_target_is_proposed_and_nothing_is_run(
    project: Project, target: str, proposed: str
) -> None:
    project.write("plain.py", "raise SystemExit('this was run')")
    project.write("named.py", "application = print('this was run')")
    project.write("imported.py", "from elsewhere import application")
    project.write("package/__init__.py", "def application(): ...")
    project.write("package/inner.py", "application: object = None")
    project.write("broken.py", "def :")
    assert project.refusal(target) == f"'{target}' does not say module:attribute; try '{proposed}'"


@pytest.mark.parametrize(
    ("module", "mend"),
    [
        ("src/main.py", "'src.main'"),
        ("main.py", "'main'"),
        (".main", "'main'"),
        ("/srv/site/main.py", "'main' with --app-dir /srv/site"),
    ],
)
def test_a_path_is_no_module_name(project: Project, module: str, mend: str) -> None:
    assert project.refusal(f"{module}:app") == f"'{module}' is no module name; write {mend}"


def test_a_module_that_does_not_exist_is_refused_with_the_nearest(project: Project) -> None:
    project.write("website.py", ASGI)
    where = f"in {project.folder}"
    assert project.refusal("webiste:app") == f"there is no module 'webiste' {where}; did you mean 'website'?"
    assert (
        project.refusal("zzz:app")
        == f"there is no module 'zzz' {where}; name the folder it is in with --app-dir"
    )


def test_a_module_or_package_on_the_way_that_does_not_exist_is_refused(project: Project) -> None:
    project.write("store/__init__.py", "")
    project.write("store/views.py", ASGI)
    assert "there is no module 'store.view' " in project.refusal("store.view:app")
    assert project.refusal("store.view:app").endswith("; did you mean 'store.views'?")
    assert "there is no module 'stor' " in project.refusal("stor.views:app")


def test_an_attribute_that_does_not_exist_is_refused_with_the_nearest(project: Project) -> None:
    project.write("site_c.py", f"{ASGI}\nport = 80\n")
    message = project.refusal("site_c:ap")
    assert message.startswith(f"module 'site_c' ({project.folder}/site_c.py) has no attribute 'ap'")
    assert message.endswith("; did you mean 'app'?")


def test_without_a_near_name_the_likely_ones_are_listed(project: Project) -> None:
    project.write(
        "site_d.py",
        "from pathlib import Path\nfrom starlette.applications import Starlette\n"
        "site = Starlette()\nnumber = 1\n_hidden = Starlette()\ndef create(): ...\n",
    )
    assert project.refusal("site_d:x").endswith("; callable there: site, create")


def test_a_module_without_anything_callable_is_refused(project: Project) -> None:
    project.write("site_e.py", "number = 1")
    assert project.refusal("site_e:app").endswith("; nothing there can be called; name another module")


def test_a_missing_attribute_of_an_object_is_refused(project: Project) -> None:
    project.write("site_f.py", "class Holder: ...\nholder = Holder()")
    assert project.refusal("site_f:holder.app").startswith("Holder in 'site_f' has no attribute 'app'")


def test_what_cannot_be_called_is_refused(project: Project) -> None:
    project.write("site_g.py", "app = 1")
    assert (
        project.refusal("site_g:app")
        == "'site_g:app' is of type int, which cannot be called; name an application"
    )


# --- Factories


def test_a_factory_is_called(project: Project) -> None:
    project.write("site_h.py", f"{ASGI}\ndef create(debug=False): return app\n")
    assert project.load("site_h:create", factory=True) is sys.modules["site_h"].app


def test_a_factory_that_is_not_declared_is_recognised(project: Project) -> None:
    project.write("site_i.py", "def create(debug=False): ...")
    assert project.refusal("site_i:create").endswith("if it returns one, add --factory")
    assert (
        project.refusal("site_i:create()")
        == "'site_i:create()' is a call; write 'site_i:create' and add --factory"
    )


@pytest.mark.parametrize(
    ("source", "mend"),
    [
        ("create = 1", "is of type int, no factory; leave --factory out"),
        ("def create(scope, receive, send): ...", "needs arguments; a factory takes none"),
        ("async def create(): ...", "is async; a factory has to return the application without await"),
        ("def create(): return 1", "is of type int, which cannot be called"),
    ],
)
def test_what_is_no_factory_is_refused(project: Project, source: str, mend: str) -> None:
    project.write("site_j.py", source)
    message = project.refusal("site_j:create", factory=True)
    assert "'site_j:create'" in message
    assert mend in message


# --- When their code raises


def test_an_exception_of_the_module_shows_their_frames_only(project: Project) -> None:
    project.write("site_k.py", "import site_k_settings")
    project.write("site_k_settings.py", "def read():\n    return {}['missing']\n\nread()\n")
    failed = project.failure("site_k:app")
    assert str(failed) == "importing 'site_k' raised KeyError; the traceback says where"
    lines = failed.trace.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1].endswith('site_k.py", line 1, in <module>')
    assert lines[-1] == "KeyError: 'missing'"
    assert isinstance(failed.__cause__, KeyError)


def test_a_module_that_they_miss_is_their_failure(project: Project) -> None:
    project.write("site_l.py", "import site_l_plugin")
    failed = project.failure("site_l:app")
    assert f"needs the module 'site_l_plugin', which is not there; install it for {sys.executable}" in str(
        failed
    )
    assert failed.trace.endswith("No module named 'site_l_plugin'\n")


def test_a_syntax_error_shows_the_line(project: Project) -> None:
    project.write("site_m.py", "x = 1\ndef :\n")
    failed = project.failure("site_m:app")
    assert 'site_m.py", line 2' in failed.trace
    assert failed.trace.splitlines()[-1].startswith("SyntaxError")


def test_an_exception_of_the_factory_shows_their_frames_only(project: Project) -> None:
    project.write("site_n.py", "def create():\n    raise ValueError('no database')\n")
    failed = project.failure("site_n:create", factory=True)
    assert str(failed) == "calling 'site_n:create' raised ValueError; the traceback says where"
    assert failed.trace.splitlines()[1].endswith('site_n.py", line 2, in create')


def test_an_exception_of_a_lookup_shows_their_frames_only(project: Project) -> None:
    project.write("site_o.py", "def __getattr__(name):\n    raise RuntimeError(name)\n")
    assert "looking up 'app' in 'site_o' raised RuntimeError" in str(project.failure("site_o:app"))


def test_their_exit_is_theirs(project: Project) -> None:
    project.write("site_p.py", "raise SystemExit(7)")
    with pytest.raises(SystemExit) as left:
        project.load("site_p:app")
    assert left.value.code == 7


# --- Telling the kind: ASGI 3


async def asgi3(scope: Scope, receive: Receive, send: Send) -> None:
    pass


class Asgi3Instance:
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        pass

    async def method(self, scope: Scope, receive: Receive, send: Send) -> None:
        pass


class Asgi3Class:
    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = scope

    def __await__(self) -> Iterator[None]:
        yield


def asgi3_plain(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
    return asgi3(scope, receive, send)


@functools.wraps(asgi3)
def asgi3_decorated(*args: Any, **kwargs: Any) -> Awaitable[None]:
    return asgi3(*args, **kwargs)


async def asgi3_loose(*args: Any) -> None:
    pass


def asgi3_with_defaults(scope: Scope, receive: Any = None, send: Any = None) -> None:
    pass


async def asgi3_configured(setting: str, scope: Scope, receive: Receive, send: Send) -> None:
    pass


@pytest.mark.parametrize(
    "app",
    [
        asgi3,
        Asgi3Instance(),
        Asgi3Instance().method,
        Asgi3Class,
        asgi3_plain,
        asgi3_decorated,
        asgi3_loose,
        asgi3_with_defaults,
        functools.partial(asgi3_configured, "setting"),
        functools.partial(Asgi3Instance()),
        Starlette(),
    ],
    ids=[
        "function",
        "instance",
        "method",
        "class",
        "plain",
        "decorated",
        "loose",
        "defaults",
        "partial function",
        "partial instance",
        "starlette",
    ],
)
def test_an_asgi_3_application_is_left_as_it_is(app: Any) -> None:
    assert adapt(app) is app


# --- ASGI 2


def asgi2(scope: Scope) -> Callable[[Receive, Send], Awaitable[None]]:
    async def instance(receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "seen", "scope": scope})

    return instance


class Asgi2Class:
    def __init__(self, scope: Scope) -> None:
        self.scope = scope

    async def __call__(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "seen", "scope": self.scope})


class Asgi2Instance:
    def __call__(self, scope: Scope) -> Callable[[Receive, Send], Awaitable[None]]:
        return asgi2(scope)


def asgi2_configured(setting: str, scope: Scope) -> Callable[[Receive, Send], Awaitable[None]]:
    return asgi2(scope)


def asgi2_with_default(scope: Scope, setting: str = "") -> Callable[[Receive, Send], Awaitable[None]]:
    return asgi2(scope)


@pytest.mark.parametrize(
    "app",
    [asgi2, Asgi2Class, Asgi2Instance(), asgi2_with_default, functools.partial(asgi2_configured, "setting")],
    ids=["function", "class", "instance", "default", "partial"],
)
async def test_an_asgi_2_application_is_called_twice_and_told_its_version(app: Any) -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await adapt(app)(SCOPE, receive_nothing, send)
    asgi = {"version": "2.0", "spec_version": "2.5"}
    assert sent == [{"type": "seen", "scope": {**SCOPE, "asgi": asgi}}]
    assert SCOPE["asgi"]["version"] == "3.0"


# --- WSGI


def wsgi(environ: Any, start_response: Any) -> Iterable[bytes]:
    return []


class WsgiInstance:
    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        return []


class WsgiClass:
    def __init__(self, environ: Any, start_response: Any) -> None:
        pass

    def __iter__(self) -> Iterator[bytes]:
        yield b""


def wsgi_with_default(environ: Any, start_response: Any, setting: str = "") -> Iterable[bytes]:
    return []


def wsgi_configured(setting: str, environ: Any, start_response: Any) -> Iterable[bytes]:
    return []


@pytest.mark.parametrize(
    "app",
    [
        wsgi,
        WsgiInstance(),
        WsgiClass,
        lambda e, s: [],
        wsgi_with_default,
        functools.partial(wsgi_configured, "setting"),
    ],
    ids=["function", "instance", "class", "lambda", "default", "partial"],
)
def test_a_wsgi_application_is_recognised(app: Any) -> None:
    assert isinstance(adapt(app), WsgiApplication)


# --- Neither


def loose(*args: Any, **kwargs: Any) -> None:
    pass


async def async_of_two(receive: Receive, send: Send) -> None:
    pass


def of_four(one: int, two: int, three: int, four: int) -> None:
    pass


class NoApplication:
    def __init__(self, settings: str) -> None:
        pass


@pytest.mark.parametrize("app", [async_of_two, of_four, NoApplication, type])
def test_what_cannot_be_told_has_to_be_said(app: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"^cannot tell what kind of application it is; say --interface asgi3, "
    ):
        adapt(app, name="it")


@pytest.mark.parametrize("app", [loose, Starlette, lambda: asgi3], ids=["loose", "class", "lambda"])
def test_what_needs_no_arguments_is_rather_a_factory(app: Any) -> None:
    with pytest.raises(ConfigError, match=r"^the application needs no arguments, .* add --factory$"):
        adapt(app)


async def test_the_interface_can_be_said() -> None:
    app: Any = loose
    assert adapt(app, "asgi3") is app
    assert isinstance(adapt(loose, "wsgi"), WsgiApplication)
    called: list[Scope] = []

    def of_anything(*args: Any) -> Callable[..., Awaitable[None]]:
        called.append(args[0])
        return Asgi2Class(SCOPE)

    await adapt(of_anything, "asgi2")(SCOPE, receive_nothing, send_nowhere)
    assert called[0]["asgi"]["version"] == "2.0"


def test_the_interface_of_the_settings_is_used(project: Project) -> None:
    project.write("site_q.py", "def app(*args): ...")
    assert isinstance(project.load("site_q:app", interface="wsgi"), WsgiApplication)
