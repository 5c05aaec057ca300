"""What became of a request: told once, at its end, to whoever keeps account of it.

The access log and the metrics listen here (`Worker.observers`). While nobody does, nothing is measured.
"""

from collections.abc import Callable
from typing import TypeAlias

from .asgi import Fields, Scope

Outcome: TypeAlias = tuple[Scope, int, Fields, int, float | None, float, int]
"""A request that has ended, a WebSocket that is closed, or a request that no application was to see.

A tuple, because there is one for each request, and no object with names is made as fast:

- scope: Its scope, in which an application may have changed anything. Of a request that could not
  be read it has only `client`, `scheme` and `extensions`.
- status: Of the answer; 0 if the client left before there was one.
- fields: Of the answer's head, as the core made it; empty if the wire gave the answer.
- length: Content sent, in bytes; of a WebSocket its frames.
- seconds: From the request's head to the end of the answer; None if the wire gave it at once.
- ended_at: When it ended, on the clock.
- stream_id: The HTTP/2 stream; 0 on HTTP/1.
"""

Observer: TypeAlias = Callable[[Outcome], None]
"""Called in the middle of everything: it neither raises nor waits."""
