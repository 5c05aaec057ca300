"""What the workers counted, as a Prometheus text: the names, labels and meaning of each metric.

The writing is prometheus-client's, of the extra `metrics`. docs/observability.md says more of each metric.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Final, TypeAlias

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from . import __version__
from .core.loop_watch import LAG_BOUNDS
from .core.metrics import DURATION_BOUNDS, Numbers

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Labelled: TypeAlias = Iterable[tuple[tuple[str, ...], float]]
"""Values, each with the values of its labels."""


def render(counters: Numbers, workers: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> bytes:
    """Return the text.

    Args:
        counters: The sums of all workers.
        workers: What each has answered; of these, the gauges.
        facts: How the fleet describes itself.
    """
    return generate_latest(_Scrape(counters, workers, facts))


class _Scrape(Collector):
    """The metrics of one answer."""

    def __init__(
        self, counters: Numbers, workers: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]
    ) -> None:
        self._counters = counters
        self._workers = workers
        self._facts = facts

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield _gauge("info", "Which version runs.", ("version",), [((__version__,), 1)])
        yield from self._requests()
        yield from self._connections()
        yield from self._websockets()
        yield from self._health()

    def _requests(self) -> Iterator[Metric]:
        counters = self._counters
        requests = (
            ((protocol, status), count)
            for protocol, statuses in counters.get("requests", {}).items()
            for status, count in statuses.items()
        )
        yield _counter("requests", "Requests that have ended.", ("protocol", "status"), requests)
        yield _histogram(
            "request_duration_seconds",
            "From the head of a request to the end of its answer.",
            ("protocol",),
            DURATION_BOUNDS,
            (((protocol,), numbers) for protocol, numbers in counters.get("durations", {}).items()),
        )
        yield self._gauge("requests_in_flight", "Requests being answered.", "in_flight")
        yield self._gauge("requests_queued", "Requests that wait for their turn.", "queued")
        yield self._by("http2_resets", "HTTP/2 streams that ended in a reset.", "by", "resets")
        yield self._by("limits_hit", "How often clients went beyond a limit.", "limit", "limits")

    def _connections(self) -> Iterator[Metric]:
        connections = Counter[tuple[str, ...]]()
        for answer in self._workers:
            for protocol, count in answer["gauges"]["connections"].items():
                connections[str(answer["worker"]), protocol] += count
        labels = ("worker", "protocol")
        yield _gauge("connections", "Connections that are open.", labels, connections.items())
        yield self._by("connections_opened", "Connections so far.", "protocol", "opened")
        yield self._by("tls_handshakes", "TLS handshakes that have ended.", "result", "handshakes")
        for name, what in (("received", "came from clients"), ("sent", "were sent to clients")):
            yield self._total(f"{name}_bytes", f"Bytes that {what}, without those of TLS.", name)

    def _websockets(self) -> Iterator[Metric]:
        yield self._gauge("websockets", "WebSockets that are open.", "websockets")
        yield self._total("websockets_opened", "WebSockets that were accepted.", "websockets")
        yield self._by("websocket_messages", "WebSocket messages.", "direction", "messages")

    def _health(self) -> Iterator[Metric]:
        counters, facts = self._counters, self._facts
        if "lag" in counters:
            help_text = "How late an event loop came to what was due at once."
            yield _histogram("event_loop_lag_seconds", help_text, (), LAG_BOUNDS, [((), counters["lag"])])
            yield self._total(
                "event_loop_blocked", "How often it was later than --blocked-loop-after.", "blocked"
            )
        states = [worker["state"] for worker in facts["workers"]]
        counts = (((state,), states.count(state)) for state in ("starting", "ready", "draining"))
        yield _gauge("workers", "Workers, by how far they are.", ("state",), counts)
        yield _counter("worker_restarts", "Workers that were replaced.", (), [((), facts["restarts"])])
        silent = max(0, states.count("ready") - len(self._workers))
        yield _gauge("workers_silent", "Workers that did not answer just now.", (), [((), silent)])

    def _total(self, name: str, help_text: str, key: str) -> Metric:
        return _counter(name, help_text, (), [((), self._counters.get(key, 0))])

    def _by(self, name: str, help_text: str, label: str, key: str) -> Metric:
        values = (((value,), count) for value, count in self._counters.get(key, {}).items())
        return _counter(name, help_text, (label,), values)

    def _gauge(self, name: str, help_text: str, key: str) -> Metric:
        values = Counter[tuple[str, ...]]()  # by number: a worker that drains has that of its successor
        for answer in self._workers:
            values[(str(answer["worker"]),)] += answer["gauges"][key]
        return _gauge(name, help_text, ("worker",), values.items())


def _counter(name: str, help_text: str, labels: Sequence[str], values: Labelled) -> Metric:
    family = CounterMetricFamily(f"alphorn_{name}", help_text, labels=labels)
    for labelled, value in values:
        family.add_metric(labelled, value)
    return family


def _gauge(name: str, help_text: str, labels: Sequence[str], values: Labelled) -> Metric:
    family = GaugeMetricFamily(f"alphorn_{name}", help_text, labels=labels)
    for labelled, value in values:
        family.add_metric(labelled, value)
    return family


def _histogram(
    name: str,
    help_text: str,
    labels: Sequence[str],
    bounds: Sequence[float],
    histograms: Iterable[tuple[tuple[str, ...], Numbers]],
) -> Metric:
    family = HistogramMetricFamily(f"alphorn_{name}", help_text, labels=labels)
    limits = [*map(str, bounds), "+Inf"]
    for labelled, numbers in histograms:
        buckets = list(zip(limits, accumulate(numbers["counts"]), strict=True))
        family.add_metric(labelled, buckets, numbers["sum"])
    return family
