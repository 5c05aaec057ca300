"""The application behind `--admin-bind`: health and metrics for machines, commands for the operator.

Invariants:
- It knows the fleet, and neither sockets nor protocols; what it says of workers is what they answered.
- Over a port, which every user and every browser of the machine can reach, there are only numbers. What
  names clients, or changes something, needs a unix socket, which is its owner's alone.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from .asgi import Field, Receive, Scope, Send
from .config import SETTINGS
from .errors import ConfigError
from .fleet import Fleet
from .metrics import Numbers, Totals
from .proxies import AllowedHosts
from .status_page import status_page

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"
_MOST_CONTENT: Final = 4096  # bytes of the arguments of a command; the longest is the name of a level
# The page of anybody could have its own name point here, and have a browser of this machine read it.
_HOSTS: Final = AllowedHosts(("localhost", "127.0.0.1", "[::1]"))
_FIELDS: Final[tuple[Field, ...]] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
)
_METHODS: Final = {"GET": ("GET", "HEAD"), "POST": ("POST",)}
_LOG_LEVEL: Final = next(setting for setting in SETTINGS if setting.name == "log_level")
# What names clients; a command of the same name answers it.
_LISTS: Final = ("connections", "streams", "slow", "stacks")


class Render(Protocol):
    """Writes metrics for a machine."""

    def __call__(
        self, counters: Numbers, workers: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
    ) -> bytes:
        """Return the text.

        Args:
            counters: The sums of all workers.
            workers: What each has answered.
            facts: How the fleet describes itself.
        """


class Exposition(NamedTuple):
    """How metrics are written for a machine."""

    render: Render
    content_type: str


class Answer(NamedTuple):
    """What the endpoint says to one request."""

    status: int
    content: bytes
    content_type: str = _TEXT


Handler: TypeAlias = Callable[[Mapping[str, Any]], Awaitable[Answer]]
"""Answers a request with the arguments in its content."""


class Route(NamedTuple):
    """What a path is for."""

    method: str
    handler: Handler
    private: bool = False
    """Whether it is for the owner of a unix socket alone."""


class Admin:
    """The application."""

    def __init__(self, fleet: Fleet, exposition: Exposition | None) -> None:
        """Answer for a fleet.

        Args:
            fleet: Who is asked.
            exposition: How metrics are written; None if that is not installed.
        """
        self._fleet = fleet
        self._exposition = exposition
        self._totals = Totals()
        self._routes: dict[str, Route] = {
            "/": Route("GET", self._page),
            "/healthz": Route("GET", self._health),
            "/readyz": Route("GET", self._readiness),
            "/metrics": Route("GET", self._metrics),
            "/status": Route("GET", self._status),
            **{f"/{name}": Route("GET", self._list_by(name), private=True) for name in _LISTS},
            "/reload": Route("POST", self._reload, private=True),
            "/drain": Route("POST", self._drain, private=True),
            "/log-level": Route("POST", self._log_level, private=True),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        answer = await self._answer(scope, receive)
        fields = [(b"content-type", answer.content_type.encode()), *_FIELDS]
        await send({"type": "http.response.start", "status": answer.status, "headers": fields})
        await send({"type": "http.response.body", "body": answer.content})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        # A unix socket has a path, and no port.
        private = scope["server"] is None or scope["server"][1] is None
        host = dict(scope["headers"]).get(b"host")  # every browser sends it; a check in HTTP/1.0 need not
        if not private and host is not None and host not in _HOSTS:
            return _refusal(HTTPStatus.MISDIRECTED_REQUEST, "ask for localhost, 127.0.0.1 or [::1]")
        route = self._routes.get(scope["path"])
        if route is None:
            return _refusal(HTTPStatus.NOT_FOUND, f"there are {', '.join(self._routes)}")
        if scope["method"] not in _METHODS[route.method]:
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"the method here is {route.method}")
        if route.private and not private:
            return _refusal(HTTPStatus.FORBIDDEN, "this needs a unix socket: --admin-bind unix:/PATH")
        try:
            return await route.handler(await _read_arguments(receive))
        except ConfigError as error:
            return _refusal(HTTPStatus.CONFLICT, str(error))

    # ------------------------------------------------------------------ for machines

    async def _health(self, _: Mapping[str, Any]) -> Answer:
        """Say that the process is alive: who is not, does not answer."""
        return Answer(HTTPStatus.OK, b"ok\n")

    async def _readiness(self, _: Mapping[str, Any]) -> Answer:
        """Say whether new clients are welcome: they are if one worker is ready."""
        state = self._state()
        status = HTTPStatus.OK if state == "ready" else HTTPStatus.SERVICE_UNAVAILABLE
        return Answer(status, f"{state}\n".encode())

    async def _metrics(self, _: Mapping[str, Any]) -> Answer:
        if self._exposition is None:
            mend = "metrics are written with prometheus-client: pip install 'alphorn[metrics]'"
            return _refusal(HTTPStatus.NOT_IMPLEMENTED, mend)
        facts = self._fleet.describe()
        answers, counters = await self._ask_numbers(facts)
        content = self._exposition.render(counters, answers, facts)
        return Answer(HTTPStatus.OK, content, self._exposition.content_type)

    # ------------------------------------------------------------------ for the operator

    async def _page(self, _: Mapping[str, Any]) -> Answer:
        return Answer(HTTPStatus.OK, status_page(await self._describe()), "text/html; charset=utf-8")

    async def _status(self, _: Mapping[str, Any]) -> Answer:
        return _as_json(await self._describe())

    def _list_by(self, command: str) -> Handler:
        async def listed(_: Mapping[str, Any]) -> Answer:
            return _as_json(await self._fleet.ask(command))

        return listed

    async def _reload(self, _: Mapping[str, Any]) -> Answer:
        return _as_json({"done": await self._fleet.reload()})

    async def _drain(self, _: Mapping[str, Any]) -> Answer:
        self._fleet.drain()
        return _as_json({"done": "what runs may end; then the server does"})

    async def _log_level(self, arguments: Mapping[str, Any]) -> Answer:
        level = arguments.get("level")
        _LOG_LEVEL.check(level, "level")
        answers = await self._fleet.ask("log_level", level=level)
        return _as_json(
            {
                "done": f"{len(answers)} of {len(self._fleet.describe()['workers'])} workers log from {level} on"
            }
        )

    # ------------------------------------------------------------------ what both want to know

    def _state(self) -> str:
        states = {worker["state"] for worker in self._fleet.describe()["workers"]}
        return next((state for state in ("ready", "starting") if state in states), "draining")

    async def _ask_numbers(self, facts: Mapping[str, Any]) -> tuple[list[dict[str, Any]], Numbers]:
        """Ask the workers what they counted; return the answers of those that are there, and the sums of all."""
        answers = await self._fleet.ask("metrics")
        counters = self._totals.add(answers, [worker["pid"] for worker in facts["workers"]])
        return [answer for answer in answers if "gauges" in answer], counters

    async def _describe(self) -> dict[str, Any]:
        """Say how the fleet is, in numbers."""
        facts = self._fleet.describe()
        answers, counters = await self._ask_numbers(facts)
        gauges = {answer["pid"]: answer["gauges"] for answer in answers}
        workers = [worker | gauges.get(worker["pid"], {}) for worker in facts["workers"]]
        return {**facts, "state": self._state(), "workers": workers, "counters": counters}


def _refusal(status: HTTPStatus, reason: str) -> Answer:
    return Answer(status, f"{status.phrase}: {reason}\n".encode())


def _as_json(value: object) -> Answer:
    return Answer(HTTPStatus.OK, json.dumps(value, indent=2).encode() + b"\n", _JSON)


async def _read_arguments(receive: Receive) -> dict[str, Any]:
    """Read the arguments of a command: a JSON object, or nothing.

    Raises:
        ConfigError: It is something else.
    """
    content = b""
    more = True
    while more and len(content) <= _MOST_CONTENT:
        message = await receive()
        content += message.get("body", b"")
        more = message.get("more_body", False)
    try:
        arguments = json.loads(content or b"{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict) or len(content) > _MOST_CONTENT:
        raise ConfigError("the arguments are no JSON object; leave them out where there are none")
    return arguments
