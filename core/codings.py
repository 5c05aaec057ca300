"""Content codings: which form of a representation a client would rather have (RFC 9110, 12.5.3)."""

import re
from collections.abc import Collection
from typing import Final

IDENTITY: Final = b"identity"

SUFFIXES: Final = {b"br": b".br", b"zstd": b".zst", b"gzip": b".gz"}
"""How files in each coding are named, the one that is smallest as a rule first (RFC 7932, 8878, 1952)."""

_ELEMENT: Final = re.compile(
    rb"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?"
)
_ALIASES: Final = {b"x-gzip": b"gzip"}  # RFC 9110, 8.4.1.3


def choose_coding(accepted: bytes | None, available: Collection[bytes]) -> bytes:
    """Choose the coding that the client likes best; of several, the first of `SUFFIXES`.

    Without the field any would do (12.5.3), but who does not say so can seldom decode. Where nothing is
    acceptable, not even the identity, that is what the client gets: an error would help it less.

    Args:
        accepted: The value of `accept-encoding`; None if it is not there.
        available: The codings there are, beside the identity.
    """
    if not accepted or not available:
        return IDENTITY
    weights = _weights(accepted)
    others = weights.get(b"*", 0.0)
    best, most = IDENTITY, weights.get(IDENTITY, others)
    for coding in SUFFIXES:
        weight = weights.get(coding, others) if coding in available else 0.0
        # At the same weight what is smaller wins, but for another coding that has come before.
        if weight and (weight > most or (weight == most and best == IDENTITY)):
            best, most = coding, weight
    return best


def _weights(accepted: bytes) -> dict[bytes, float]:
    weights: dict[bytes, float] = {}
    for element in accepted.lower().split(b","):
        match = _ELEMENT.fullmatch(element)
        if match is not None:  # what cannot be read was not said
            weights[_ALIASES.get(match[1], match[1])] = float(match[2] or 1)
    return weights
