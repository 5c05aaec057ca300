"""HTTP/2 as h2spec judges it: strictly, all groups, over TLS and in the clear."""

import os

import pytest

from compliance import h2spec
from compliance.h2spec import Counts, H2specUnavailable
from support.certificates import Pair


def judge(certificate: Pair | None) -> Counts:
    try:
        return h2spec.run(certificate)
    except H2specUnavailable as reason:
        if os.environ.get("ALPHORN_REQUIRE_TOOLS") == "1":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.mark.timeout(300)  # the first run builds the program
def test_h2spec_finds_nothing_to_mend_over_tls_and_in_the_clear(certificate: Pair) -> None:
    for pair in certificate, None:
        counts = judge(pair)
        assert counts.failed == ()
        assert counts.passed == counts.total == h2spec.CASES
