"""The application behind `--admin-bind`: health and metrics for machines, commands for the operator.

Invariants:
- It knows the fleet, and neither sockets nor protocols; what it says of workers is what they answered.
- Over a port, which every user and every browser of the machine can reach, there are only numbers. What
  names clients, or changes something, needs a unix socket, which is its owner's alone.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple, TypeAlias

from .asgi import Field, Receive, Scope, Send
from .errors import ConfigError
from .fleet import Fleet
from .proxies import AllowedHosts

TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"
_MOST_CONTENT: Final = 4096  # bytes of the arguments of a command; the longest is the name of a level
# A page of anybody could have its own name point here, and have a browser of this machine read it.
_HOSTS: Final = AllowedHosts(("localhost", "127.0.0.1", "[::1]"))
_FIELDS: Final[tuple[Field, ...]] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
    (b"x-content-type-options", b"nosniff"),
)


class Answer(NamedTuple):
    """What the endpoint says to one request."""

    status: int
    content: bytes
    content_type: str = TEXT


class Request(NamedTuple):
    """What an answer may depend on."""

    fields: Mapping[bytes, bytes]
    arguments: Mapping[str, Any]


Handler: TypeAlias = Callable[[Request], Awaitable[Answer]]


class Route(NamedTuple):
    """What a path is for."""

    method: str
    handler: Handler
    private: bool = False
    """Whether it is for the owner of a unix socket alone."""


class Admin:
    """The application.

    Attributes:
        routes: What there is, by path.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.routes: dict[str, Route] = {
            "/healthz": Route("GET", self._health),
            "/readyz": Route("GET", self._readiness),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        answer = await self._answer(scope, receive)
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [(b"content-type", answer.content_type.encode()), *_FIELDS],
            }
        )
        await send({"type": "http.response.body", "body": answer.content})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        fields = dict(scope["headers"])
        local = scope["server"] is None or scope["server"][1] is None  # a unix socket has a path, and no port
        route = self.routes.get(scope["path"])
        if not local and fields.get(b"host", b"") not in _HOSTS:
            return refusal(HTTPStatus.MISDIRECTED_REQUEST, "ask for localhost, 127.0.0.1 or [::1]")
        if route is None:
            return refusal(HTTPStatus.NOT_FOUND, f"there are {', '.join(self.routes)}")
        if scope["method"] != route.method and (scope["method"], route.method) != ("HEAD", "GET"):
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"the method here is {route.method}")
        if route.private and not local:
            return refusal(HTTPStatus.FORBIDDEN, "this needs a unix socket: --admin-bind unix:/PATH")
        try:
            return await route.handler(Request(fields, await _arguments(receive)))
        except ConfigError as error:
            return refusal(HTTPStatus.CONFLICT, str(error))

    async def _health(self, _: Request) -> Answer:
        """Say that the process is alive: who cannot, does not answer."""
        return Answer(HTTPStatus.OK, b"ok\n")

    async def _readiness(self, _: Request) -> Answer:
        """Say whether new clients are welcome: as long as one worker is ready."""
        states = {worker["state"] for worker in self._fleet.describe()["workers"]}
        for state in ("ready", "starting"):
            if state in states:
                break
        else:
            state = "draining"
        status = HTTPStatus.OK if state == "ready" else HTTPStatus.SERVICE_UNAVAILABLE
        return Answer(status, f"{state}\n".encode())


def refusal(status: HTTPStatus, reason: str) -> Answer:
    """Return the answer to what cannot be done; the reason says what could."""
    return Answer(status, f"{status.phrase}: {reason}\n".encode())


def as_json(value: object) -> Answer:
    """Return an answer for programs."""
    return Answer(HTTPStatus.OK, json.dumps(value, indent=2).encode() + b"\n", JSON)


async def _arguments(receive: Receive) -> dict[str, Any]:
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
