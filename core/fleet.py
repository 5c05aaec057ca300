"""Fleet: all workers of a service as one, for whoever asks them something; and the fleet of one process.

Invariants:
- Whoever asks knows neither how many workers there are nor where: the answers of one are a list too.
- Asking never waits for an application: a worker's commands are plain functions, quick, and answer with
  what JSON can say.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from .clock import Clock

Commands: TypeAlias = Mapping[str, Callable[..., Any]]
"""What a worker can be asked, by name; each takes arguments by name and returns something JSON can say."""

State: TypeAlias = Literal["starting", "ready", "draining"]
"""How far a worker is. Only one that is ready wants new clients."""


class Fleet(Protocol):
    """The workers of a service."""

    async def ask(self, command: str, /, **arguments: Any) -> list[dict[str, Any]]:
        """Ask every worker.

        Returns:
            The answers, in the order of the workers' numbers, each with its number as `worker`. One that drains
            answers too, and its successor may have its number. Who does not answer in time is left out. Asked
            for "metrics", workers that have ended since then answer once more, without `gauges`.

        Raises:
            KeyError: There is no such command.
        """

    def describe(self) -> dict[str, Any]:
        """Say what is known without asking anybody.

        Returns:
            `pid` and `age` in seconds, of the process that is asked; `restarts`, how many workers were
            replaced so far; `workers`, each with `worker` (its number, from 1), `pid`, `age` and `state`.
        """

    async def reload(self) -> str:
        """Do what SIGHUP does.

        Returns:
            What came of it, in a sentence.

        Raises:
            ConfigError: It cannot be done, or went wrong; what was in use still is.
        """

    def drain(self) -> None:
        """Begin to do what SIGTERM does: end in good order.

        Raises:
            ConfigError: It is not for this server to end.
        """


@dataclass(kw_only=True)
class SingleProcess:
    """The fleet of a server that is one worker, in its own process.

    Attributes:
        commands: What it can be asked.
        clock: The server's.
        state: Tells how far it is.
        reload_now: See `Fleet.reload`.
        drain_now: See `Fleet.drain`.
    """

    commands: Commands
    clock: Clock
    state: Callable[[], State]
    reload_now: Callable[[], str]
    drain_now: Callable[[], None]

    def __post_init__(self) -> None:
        self._began_at = self.clock.now()

    async def ask(self, command: str, /, **arguments: Any) -> list[dict[str, Any]]:
        """Ask the one worker; see `Fleet.ask`."""
        return [{"worker": 1, **self.commands[command](**arguments)}]

    def describe(self) -> dict[str, Any]:
        """Describe the one worker, which nobody replaces; see `Fleet.describe`."""
        itself = {"pid": os.getpid(), "age": self.clock.now() - self._began_at}
        return {**itself, "restarts": 0, "workers": [{"worker": 1, **itself, "state": self.state()}]}

    async def reload(self) -> str:
        """See `Fleet.reload`."""
        return self.reload_now()

    def drain(self) -> None:
        """See `Fleet.drain`."""
        self.drain_now()


if TYPE_CHECKING:
    _: type[Fleet] = SingleProcess
