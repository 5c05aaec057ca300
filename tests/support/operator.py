"""The operator's side of `--admin-bind`: asks a server in this process over its unix socket."""

from types import TracebackType
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from .certificates import TRUSTS_NOBODY


class Operator:
    """A client of the unix socket, as `async with Operator("admin.sock") as operator:`."""

    def __init__(self, path: str) -> None:
        self._client = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=path, verify=TRUSTS_NOBODY),
            base_url="http://admin",
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.aclose()

    async def get(self, path: str) -> httpx.Response:
        """Ask for a path."""
        return await self._client.get(path)

    async def request(self, method: str, path: str, arguments: Any = None) -> httpx.Response:
        """Ask in any way, with arguments as JSON if there are any."""
        return await self._client.request(method, path, json=arguments)

    async def json(self, path: str) -> Any:
        """Return what a path answers, which is JSON."""
        return (await self.get(path)).json()

    async def metrics(self) -> "Metrics":
        """Return the metrics, as Prometheus reads them."""
        return Metrics((await self.get("/metrics")).text)


class Metrics:
    """What Prometheus' own parser finds in a text."""

    def __init__(self, text: str) -> None:
        self._samples = {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    @property
    def names(self) -> set[str]:
        """The names of all metrics."""
        return {name for name, _ in self._samples}

    def __call__(self, name: str, **labels: str) -> float:
        """Return one value; 0 where there is none."""
        return self._samples.get((f"alphorn_{name}", frozenset(labels.items())), 0)
