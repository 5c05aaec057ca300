"""Inspection: what one worker answers when it is asked about itself; commands of the fleet.

Invariant: an answer is bounded, whatever goes on. What was left out of it is counted.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from .clock import Clock
from .fleet import Commands
from .http import HttpExchange
from .limits import Limits
from .log import error_log, format_address
from .loop_watch import LoopWatch
from .metrics import SLOW_SECONDS, Metrics, Numbers, describe_request
from .outcome import Outcome
from .stacks import task_stacks, thread_stacks
from .websocket import WebSocketExchange
from .worker import Worker

_MOST_ROWS: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """One worker, as the operator sees it.

    Attributes:
        workers: What there is of it, one by application: that of the redirects is apart.
        metrics: What is counted.
        limits: What came of the limits.
        clock: The time.
        watch: Of the event loop, if it is watched.
    """

    workers: Callable[[], Iterable[Worker]]
    metrics: Metrics
    limits: Limits
    clock: Clock
    watch: LoopWatch | None

    @property
    def commands(self) -> Commands:
        """What can be asked."""
        return {
            "metrics": self.numbers,
            "connections": self.connections,
            "streams": self.streams,
            "slow": self.slow,
            "stacks": self.stacks,
            "log_level": self.log_level,
        }

    def numbers(self) -> dict[str, Numbers]:
        """Return the `counters`, which only ever grow, and the `gauges`, which are as they are now."""
        counters = self.metrics.counters() | {"limits": dict(self.limits.hits)}
        if self.watch is not None:
            counters |= {"lag": self.watch.lag.numbers(), "blocked": self.watch.blocked}
        live = Counter({"http/1.1": 0, "http/2": 0})
        live.update(connection.protocol for connection in self.metrics.live.values())
        # In the middle of a handshake, or of closing.
        live["none"] = self.limits.occupancy.total - live.total()
        workers = list(self.workers())
        gauges = {
            "in_flight": sum(worker.admission.in_flight for worker in workers),
            "queued": sum(len(worker.admission.queue) for worker in workers),
            "websockets": sum(isinstance(call, WebSocketExchange) for call in self._calls()),
            "connections": live,
        }
        return {"pid": os.getpid(), "counters": counters, "gauges": gauges}

    def connections(self) -> dict[str, Any]:
        """Return a row for each connection, the oldest first."""
        now, live = self.clock.now(), self.metrics.live
        rows = (
            {
                "client": format_address(client),
                "protocol": connection.protocol,
                "tls": connection.secure,
                "seconds": round(now - connection.opened_at, 1),
                "requests": connection.requests,
                "idle": connection.idle,
                "received": connection.received,
                "sent": connection.sent,
            }
            for worker in self.workers()
            for key, client in worker.connections.items()
            if (connection := live.get(key)) is not None
        )
        return _bounded(rows, len(live))

    def streams(self) -> dict[str, Any]:
        """Return a row for each request and WebSocket that is under way, the oldest first."""
        calls = self._calls()
        return _bounded((describe_request(call.outcome) for call in calls), len(calls))

    def slow(self) -> dict[str, Any]:
        """Return a row for each request that takes long, or took long when it ended, the newest of them."""
        now = self.clock.now()
        running = [
            describe_request(call.outcome)
            for call in self._calls()
            if isinstance(call, HttpExchange) and now - call.started_at >= SLOW_SECONDS
        ]
        ended = [each.row | {"ended": round(now - each.ended_at, 1)} for each in reversed(self.metrics.slow)]
        return _bounded(running + ended, len(running) + len(ended))

    def stacks(self) -> dict[str, Any]:
        """Return where every thread and every task is."""
        names = {
            task: _name(call.outcome)
            for worker in self.workers()
            for task, call in worker.dispatcher.tasks.items()
            if isinstance(call, HttpExchange | WebSocketExchange)
        }
        return {"threads": thread_stacks(), "tasks": task_stacks(names)}

    def log_level(self, level: str) -> dict[str, Any]:
        """Log from this level on, one of those of `--log-level`, until it is changed or the worker ends."""
        error_log.setLevel(level.upper())
        return {"level": level}

    def _calls(self) -> list[HttpExchange | WebSocketExchange]:
        """Return what is under way, the oldest first."""
        calls = [
            call
            for worker in self.workers()
            for call in worker.dispatcher.running
            if isinstance(call, HttpExchange | WebSocketExchange)
        ]
        return sorted(calls, key=lambda call: call.started_at)


def _name(outcome: Outcome) -> str:
    row = describe_request(outcome)
    return f"{row['method']} {row['path']} of {row['client']}"


def _bounded(rows: Iterable[dict[str, Any]], count: int) -> dict[str, Any]:
    return {"rows": list(islice(rows, _MOST_ROWS)), "left_out": max(0, count - _MOST_ROWS)}
