"""Which coding a client gets (RFC 9110, 12.5.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core.codings import SUFFIXES, choose_coding

ALL = tuple(SUFFIXES)


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        (None, b"identity"),
        (b"", b"identity"),
        (b"gzip", b"gzip"),
        (b"GZIP", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"gzip, deflate, br, zstd", b"br"),
        (b"gzip, zstd", b"zstd"),
        (b"br;q=0.5, gzip;q=0.9", b"gzip"),
        (b"br ; q=0.5 , gzip ; Q=0.5", b"br"),
        (b"*", b"br"),
        (b"*;q=0.1, br;q=0", b"zstd"),
        (b"identity, br;q=0.5", b"identity"),
        (b"identity;q=0.5, gzip;q=0.5", b"gzip"),
        (b"gzip;q=0", b"identity"),
        (b"gzip;q=0.000, br;q=0.001", b"br"),
        (b"identity;q=0", b"identity"),
        (b"*;q=0", b"identity"),
        (b"deflate", b"identity"),
        (b"gzip;q=2", b"identity"),
        (b"gzip;level=1", b"identity"),
        (b"gzip;q=abc, br", b"br"),
        (b",,gzip,", b"gzip"),
    ],
)
def test_the_client_chooses_by_weight(accepted: bytes | None, coding: bytes) -> None:
    assert choose_coding(accepted, ALL) == coding


def test_what_is_not_there_is_not_chosen() -> None:
    assert choose_coding(b"br, gzip;q=0.1", [b"gzip"]) == b"gzip"
    assert choose_coding(b"br, *", []) == b"identity"


@given(st.binary(max_size=100), st.sets(st.sampled_from(ALL)))
def test_any_field_leads_to_something_that_is_there(accepted: bytes, available: set[bytes]) -> None:
    assert choose_coding(accepted, available) in {*available, b"identity"}
