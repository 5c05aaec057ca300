"""What became of a request, with names."""

from typing import NamedTuple

from alphorn.core.asgi import Fields, Scope


class NamedOutcome(NamedTuple):
    """An `alphorn.core.outcome.Outcome`; as the server makes them, they are plain tuples."""

    scope: Scope
    status: int
    fields: Fields
    length: int
    seconds: float | None
    ended_at: float
    stream_id: int
