"""What a row of the HTTP/1.1 corpus is: raw bytes, and what the RFCs make of them.

The rows are in http1_corpus_head, _target, _content and _flow. Each is sent on a connection on which
a valid request has been answered before, and with another valid request close behind. Where the
answer is a refusal, that one must never reach the application: it would have been smuggled.

Rows whose reason begins with "Decided:" are choices that the RFCs leave open.
"""

from collections.abc import Sequence
from typing import NamedTuple

from alphorn.core.asgi import Field

MAX_HEAD_BYTES = 4096
MAX_FIELDS = 32
"""The settings of the server that is put to the test: small, so that rows about size stay readable."""


class Sight(NamedTuple):
    """A request as the application sees it, content and all.

    Attributes:
        method: Of the scope.
        target: The raw path, and the query behind a question mark.
        body: The content.
        path: The decoded path, where it matters.
        fields: Fields that are in the scope, where it matters: the first of each name.
    """

    method: str
    target: bytes
    body: bytes = b""
    path: str | None = None
    fields: Sequence[Field] = ()


class Case(NamedTuple):
    """A row.

    Attributes:
        id: What the test is called.
        raw: What the client sends.
        answers: The statuses of the final responses, in order.
        seen: The requests that reach the application whole, in order.
        closes: Whether the server closes the connection after the answers.
        section: Where it is written.
        why: The rule in a sentence, or the reason of a decision.
        eof: Whether the client has nothing more to say and closes its side.
    """

    id: str
    raw: bytes
    answers: tuple[int, ...]
    seen: tuple[Sight, ...]
    closes: bool
    section: str
    why: str
    eof: bool = False


def refuse(name: str, raw: bytes, status: int, section: str, why: str) -> Case:
    """A request that is answered with an error and ends the connection; the application never sees it."""
    return Case(name, raw, (status,), (), True, section, why)


def accept(
    name: str,
    raw: bytes,
    section: str,
    why: str,
    *,
    method: str = "GET",
    target: bytes = b"/",
    body: bytes = b"",
    path: str | None = None,
    fields: Sequence[Field] = (),
    closes: bool = False,
) -> Case:
    """A request that the application answers with 200; the connection goes on unless `closes`."""
    return Case(name, raw, (200,), (Sight(method, target, body, path, fields),), closes, section, why)


def line(request_line: bytes) -> bytes:
    """A request made of a request line and a Host field."""
    return request_line + b"\r\nHost: a\r\n\r\n"


def target(raw: bytes) -> bytes:
    """A GET of a target."""
    return line(b"GET %b HTTP/1.1" % raw)


def get(*lines: bytes) -> bytes:
    """A GET with these field lines behind its Host."""
    return b"".join(b"%b\r\n" % each for each in (b"GET / HTTP/1.1", b"Host: a", *lines, b""))


def post(*lines: bytes, content: bytes = b"") -> bytes:
    """A POST with these field lines behind its Host, and the bytes of its content."""
    return b"POST" + get(*lines)[3:] + content


def hosts(*lines: bytes, version: bytes = b"1.1") -> bytes:
    """A GET with these field lines and no others."""
    return b"".join(b"%b\r\n" % each for each in (b"GET / HTTP/" + version, *lines, b""))


def chunked(content: bytes) -> bytes:
    """A POST with chunked content, given as it is on the wire."""
    return post(b"Transfer-Encoding: chunked", content=content)
