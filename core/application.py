"""From what the operator names to one ASGI 3 callable: `module:attribute`, factories, ASGI 2 and WSGI.

Invariants:
- A mistake of the operator is a `ConfigError` of one line. An exception of the application's own
  code is an `ApplicationFailed`, whose traceback shows that code only, none of ours.
- The kind of application is read from its signature; nothing is called to see what happens.
"""

import difflib
import functools
import importlib
import inspect
import pkgutil
import symtable
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias, cast

from .asgi import Application, Receive, Scope, Send
from .config import Config
from .errors import ApplicationFailed, ConfigError
from .wsgi import WsgiApplication

Interface: TypeAlias = Literal["asgi3", "asgi2", "wsgi"]

# What the first call to an application passes by position.
_ARGUMENTS: dict[Interface, int] = {
    "asgi3": 3,  # (scope, receive, send)
    "wsgi": 2,  # (environ, start_response)
    "asgi2": 1,  # (scope), then (receive, send)
}
# If the application is a class, what is done with the instance that the first call makes.
_INSTANCE_METHOD: dict[Interface, str] = {"asgi3": "__await__", "wsgi": "__iter__", "asgi2": "__call__"}
# A parameter name that decides where the count does not, because of defaults or *args; first match wins.
_TELLING_NAME: dict[str, Interface] = {"start_response": "wsgi", "send": "asgi3", "scope": "asgi2"}

_USUAL_NAMES = ("app", "application")
_MOST_CANDIDATES = 5


def load_application(target: str, config: Config) -> Application:
    """Import the application and adapt it.

    Args:
        target: `module:attribute[.attribute]`, as on the command line.
        config: Says where to import from (`app_dir`, which becomes the first entry of `sys.path`),
            whether the attribute is a factory, and which interface it has.

    Raises:
        ConfigError: There is no such thing, or it is no application.
        ApplicationFailed: The application's module or factory raised.
    """
    folder = _enter_app_dir(config.app_dir)
    module_name, colon, path = target.partition(":")
    if not (module_name and colon and path):
        raise ConfigError(f"'{target}' does not say module:attribute; try '{_guess_target(target, folder)}'")
    if path.endswith("()"):  # what Gunicorn and Hypercorn call a factory
        raise ConfigError(f"'{target}' is a call; write '{target[:-2]}' and add --factory")
    found: Any = _import(module_name, folder)
    for name in path.split("."):
        found = _attribute(found, name, module_name)
    if config.factory:
        return adapt(_call_factory(found, target), config.interface, name=f"what '{target}' returned")
    return adapt(found, config.interface, name=f"'{target}'")


def adapt(
    app: Any, interface: Literal["auto"] | Interface = "auto", *, name: str = "the application"
) -> Application:
    """Make an ASGI 3 application of an ASGI 3, ASGI 2 or WSGI one.

    Args:
        app: A function, a class or an object that can be called.
        interface: Its kind; auto reads the signature.
        name: What to call it in an error.

    Raises:
        ConfigError: It cannot be called, or its signature does not tell its kind.
    """
    if not callable(app):
        raise ConfigError(
            f"{name} is of type {type(app).__name__}, which cannot be called; name an application"
        )
    kind = _interface_of(app) if interface == "auto" else interface
    if kind == "asgi3":
        return cast(Application, app)
    if kind == "asgi2":
        return _from_asgi2(app)
    if kind == "wsgi":
        return WsgiApplication(app)
    if _accepts(_signature(app), 0):
        raise ConfigError(
            f"{name} needs no arguments, so it is no application; if it returns one, add --factory"
        )
    raise ConfigError(f"cannot tell what kind of application {name} is; say --interface asgi3, asgi2 or wsgi")


# --- What kind of application


def _interface_of(app: Callable[..., Any]) -> Interface | None:
    signature = _signature(app)
    if _is_async(app):  # only an ASGI 3 application is awaited at its first call
        return "asgi3" if _accepts(signature, _ARGUMENTS["asgi3"]) else None
    fitting = [kind for kind, count in _ARGUMENTS.items() if _accepts(signature, count)]
    if inspect.isclass(app):
        fitting = [kind for kind in fitting if _defines(app, _INSTANCE_METHOD[kind])]
    # What can do without arguments is rather a factory: every kind of application needs its own.
    if len(fitting) == 1 and not _accepts(signature, 0):
        return fitting[0]
    parameters = signature.parameters if signature else {}
    named = (kind for name, kind in _TELLING_NAME.items() if name in parameters and kind in fitting)
    return next(named, None)


def _signature(app: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(app)
    except (TypeError, ValueError):  # compiled code may have none
        return None


def _accepts(signature: inspect.Signature | None, count: int) -> bool:
    """Say whether a call with `count` positional arguments fits."""
    if signature is None:
        return False
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _is_async(app: Callable[..., Any]) -> bool:
    while isinstance(app, functools.partial):
        app = app.func
    if inspect.isclass(app):  # its __call__ is that of its instances, the second call of ASGI 2
        return False
    return inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(type(app).__call__)


def _defines(cls: type, method: str) -> bool:
    """Say whether instances have a method; hasattr() would find the metaclass's __call__ too."""
    return any(method in vars(base) for base in cls.__mro__)


def _from_asgi2(app: Callable[[Scope], Any]) -> Application:
    async def asgi3(scope: Scope, receive: Receive, send: Send) -> None:
        versions = {**scope["asgi"], "version": "2.0"}
        instance = app({**scope, "asgi": versions})
        await instance(receive, send)

    return asgi3


# --- Finding it


def _enter_app_dir(app_dir: str) -> Path:
    folder = Path(app_dir).expanduser().resolve()
    if not folder.is_dir():
        raise ConfigError(f"--app-dir {app_dir}: there is no folder {folder}; name the one that APP is in")
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))
    return folder


def _import(name: str, folder: Path) -> ModuleType:
    if "/" in name or "\\" in name or name.startswith(".") or name.endswith((".", ".py")):
        file = Path(name)
        mend = f"'{file.stem}' with --app-dir {file.parent}" if file.is_absolute() else f"'{_dotted(name)}'"
        raise ConfigError(f"'{name}' is no module name; write {mend}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(_no_module(error.name, folder)) from None
        raise _failed(f"importing '{name}'", error) from error
    except Exception as error:
        raise _failed(f"importing '{name}'", error) from error


def _no_module(missing: str, folder: Path) -> str:
    package, dot, name = missing.rpartition(".")
    parent = folder.joinpath(*package.split(".")) if package else folder
    near = _nearest(name, (module.name for module in pkgutil.iter_modules([str(parent)])))
    mend = f"did you mean '{package}{dot}{near}'?" if near else "name the folder it is in with --app-dir"
    return f"there is no module '{missing}' in {folder}; {mend}"


def _attribute(owner: Any, name: str, module_name: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        pass
    except Exception as error:  # a property, or the module's own __getattr__
        raise _failed(f"looking up '{name}' in '{module_name}'", error) from error
    # The file tells a module of the standard library, or another copy, from the one that was meant.
    place = getattr(owner, "__file__", None)
    where = f"module '{module_name}' ({place})" if place else f"{type(owner).__name__} in '{module_name}'"
    candidates = _candidates(owner)
    near = _nearest(name, candidates)
    if near:
        mend = f"did you mean '{near}'?"
    elif candidates:
        mend = f"callable there: {', '.join(candidates[:_MOST_CANDIDATES])}"
    else:
        mend = "nothing there can be called; name another module"
    raise ConfigError(f"{where} has no attribute '{name}'; {mend}")


def _candidates(owner: Any) -> list[str]:
    """List what may have been meant: defined here, or an object that looks like an application."""
    home = getattr(owner, "__module__", getattr(owner, "__name__", None))

    def may_be_meant(value: Any) -> bool:
        if inspect.isroutine(value) or inspect.isclass(value):
            return value.__module__ == home
        return callable(value) and _interface_of(value) is not None

    members = getattr(owner, "__dict__", {}).items()
    return [name for name, value in members if not name.startswith("_") and may_be_meant(value)]


def _nearest(name: str, names: Iterable[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name, list(names), n=1)), None)


def _guess_target(text: str, folder: Path) -> str:
    """Complete a target without a colon; the source is read, not run."""
    module = _dotted(text.strip(":")) or "main"
    package, _, last = module.rpartition(".")
    if package and last in _assigned_names(package, folder):  # 'main.app' for 'main:app'
        return f"{package}:{last}"
    assigned = _assigned_names(module, folder)
    return f"{module}:{next((name for name in _USUAL_NAMES if name in assigned), _USUAL_NAMES[0])}"


def _dotted(path: str) -> str:
    return path.replace("\\", "/").removesuffix(".py").replace("/", ".").strip(".")


def _assigned_names(module: str, folder: Path) -> set[str]:
    base = folder.joinpath(*module.split("."))
    for file in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        try:
            symbols = symtable.symtable(file.read_text("utf-8"), str(file), "exec").get_symbols()
        except (OSError, SyntaxError, ValueError):
            continue
        return {symbol.get_name() for symbol in symbols if symbol.is_assigned() or symbol.is_imported()}
    return set()


def _call_factory(factory: Any, target: str) -> Any:
    if not callable(factory):
        raise ConfigError(f"'{target}' is of type {type(factory).__name__}, no factory; leave --factory out")
    signature = _signature(factory)
    if _is_async(factory):
        raise ConfigError(f"'{target}' is async; a factory has to return the application without await")
    if signature is not None and not _accepts(signature, 0):
        raise ConfigError(
            f"'{target}' needs arguments; a factory takes none, an application needs no --factory"
        )
    try:
        return factory()
    except Exception as error:
        raise _failed(f"calling '{target}'", error) from error


# --- When their code raises


def _failed(doing: str, error: Exception) -> ApplicationFailed:
    if isinstance(error, ModuleNotFoundError) and error.name:
        cause = (
            f"{doing} needs the module '{error.name}', which is not there; install it for {sys.executable}"
        )
    else:
        cause = f"{doing} raised {type(error).__name__}; the traceback says where"
    return ApplicationFailed(cause, _their_traceback(error))


def _their_traceback(error: Exception) -> str:
    """Format a traceback from the first frame that is neither ours nor the import machinery's."""
    theirs = error.__traceback__
    while theirs is not None and _is_machinery(theirs.tb_frame.f_code.co_filename):
        theirs = theirs.tb_next
    return "".join(traceback.format_exception(type(error), error, theirs))


def _is_machinery(file: str) -> bool:
    return file in (__file__, importlib.__file__) or file.startswith("<frozen importlib")
