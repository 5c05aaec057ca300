"""The well-behaved neighbour: asks for a small page a hundred times a second, and notes how long that takes.

Requests are due at fixed times. One that could not be made because the answer before it was late counts from
when it was due: otherwise a server that stands still for a second would look bad once, not a hundred times.
"""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Final

from h2.errors import ErrorCodes

from support.carrier import Carrier
from support.exchange import Client, ExchangeCut
from support.http1_client import Http1Client
from support.http2_client import Http2Client
from support.http_client import ALPN, authority_of

from .attack import Target

RATE: Final = 100
"""Requests per second of each client."""


@dataclass(frozen=True)
class Visit:
    """One request.

    Attributes:
        began: When, in monotonic seconds.
        milliseconds: How long it took, or None if there was no answer.
        refused: Whether the answer was that the server has too much to do.
    """

    began: float
    milliseconds: float | None
    refused: bool = False


@dataclass(frozen=True)
class Latency:
    """How long requests took, in milliseconds.

    Attributes:
        median: Of all.
        p99: One of a hundred took longer.
        failed: How many were not answered.
        refused: How many were answered that the server has too much to do.
    """

    median: float
    p99: float
    failed: int
    refused: int

    @classmethod
    def of(cls, visits: Sequence[Visit]) -> "Latency":
        """Sum up."""
        refused = sum(visit.refused for visit in visits)
        times = [visit.milliseconds for visit in visits]
        answered = [time for time in times if time is not None]
        failed = len(times) - len(answered)
        if len(answered) < 2:
            return cls(math.inf, math.inf, failed, refused)
        return cls(median(answered), quantiles(answered, n=100, method="inclusive")[-1], failed, refused)


def visit(target: Target, carriers: Sequence[Carrier], seconds: float) -> list[Visit]:
    """Visit with one client for each carrier at once, for so long; for a process of its own."""
    return asyncio.run(_visit_over_all(target, carriers, seconds))


async def _visit_over_all(target: Target, carriers: Sequence[Carrier], seconds: float) -> list[Visit]:
    visits = await asyncio.gather(*(_visit(target, carrier, seconds) for carrier in carriers))
    return [visit for one in visits for visit in one]


async def _visit(target: Target, carrier: Carrier, seconds: float) -> list[Visit]:
    visits = []
    client = await _connect(target, carrier)
    until = time.monotonic() + seconds
    due = time.monotonic()
    while due < until:
        due += 1 / RATE
        began = due
        if time.monotonic() < due:
            await asyncio.sleep(due - time.monotonic())
            began = time.monotonic()  # the timer's lateness is not the server's
        try:
            if client.ended:
                client = await _connect(target, carrier)
            refused = await _ask(client)
            visits.append(Visit(began, (time.monotonic() - began) * 1000, refused))
        except (AssertionError, OSError):
            visits.append(Visit(began, None))
            client.close()
            due = time.monotonic()
    client.close()
    return visits


async def _connect(target: Target, carrier: Carrier) -> Client:
    wire = await target.connect(ALPN[carrier.http_version])
    authority = authority_of(target.url)
    if carrier.http_version == "1.1":
        return Http1Client(wire, authority)
    client = Http2Client(wire, authority)
    await client.start()
    return client


async def _ask(client: Client) -> bool:
    """Make a request; tell whether it was refused, as in admission.py."""
    exchange = await client.request("GET", "/")
    try:
        response = await exchange.response()
    except ExchangeCut:
        if exchange.reset_code != ErrorCodes.REFUSED_STREAM:
            raise
        return True
    assert response.status in (200, 503), f"answered {response.status}"
    return response.status == 503
