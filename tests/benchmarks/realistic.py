"""Requests as a browser's: a path, a query and an x-request-id of their own, the other fields repeated.

realistic.lua says the same for HTTP/1.1.
"""

import itertools
from collections.abc import Iterator

Field = tuple[str, str]

REPEATED: tuple[Field, ...] = (
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://shop.example/horns?sort=price"),
    (
        "authorization",
        "Bearer eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJlLW9mLWEtdG9rZW4tbm9ib2R5LWNoZWNrcw",
    ),
    ("cookie", "session=6f1d2c3b4a59687786950a1b2c3d4e5f; theme=dark; consent=1"),
)


def requests(seed: int) -> Iterator[list[Field]]:
    """Yield the fields of request after request, pseudo-header fields first.

    Args:
        seed: Requests of different seeds have nothing in common that is not repeated anyway.
    """
    for number in itertools.count(seed * 1_000_000_000):
        yield [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (
                ":path",
                f"/shop/horns/{number}-{number * 40503 % 2**20:x}?page={number % 97}&ref={number * 69069 % 2**32:x}",
            ),
            *REPEATED,
            ("x-request-id", f"{number * 1103515245 % 2**32:08x}-{number % 2**32:08x}"),
        ]
