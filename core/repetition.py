"""The response head that an application says again and again: found out once, then neither checked nor made anew.

Invariants:
- What is kept equals what checking would make of the same words in the same second, for the date is in it.
- Nothing kept can be changed: pairs of bytes, and a head that needs no field more.
"""

from typing import Any, Final

from .exchange import NO_HEAD, Head

# It costs more to keep a head than to make one, so that of heads that are new each time few are kept.
_TRIES: Final = 16
_MOST_FIELDS: Final = 16


class Repetition:
    """One head that may come again.

    Attributes:
        status: Its status; 0 is none's.
        pairs: What the application said.
        date: The value of its `date` field.
        head: What became of it.
        length: The length of the content that it announces, in bytes.
    """

    __slots__ = ("_tries", "date", "head", "length", "pairs", "status")

    def __init__(self) -> None:
        self._tries = 0
        self.status = 0
        self.pairs: list[tuple[bytes, bytes]] = []
        self.date = b""
        self.head: Head = NO_HEAD
        self.length: int | None = None

    def consider(self, pairs: Any, date: bytes, head: Head, length: int | None) -> None:
        """Keep a head in place of the last one, now and then.

        Args:
            pairs: What the application said: good, as it has been checked.
            date: The value of the `date` field when it was.
            head: What became of it.
            length: The length of the content that it announces, in bytes.
        """
        self._tries += 1
        if self._tries % _TRIES or not head.measured or type(pairs) is not list or len(pairs) > _MOST_FIELDS:
            return
        if all(type(pair) is tuple for pair in pairs):
            head.repeated = True
            self.status, self.pairs, self.date = head.status, pairs.copy(), date
            self.head, self.length = head, length
