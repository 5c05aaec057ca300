"""What the start banner can say of a certificate."""

import datetime as dt
from pathlib import Path

import pytest

from alphorn.core.errors import ConfigError
from alphorn.tls.certificates import describe
from support.certificates import Pair, authority


def test_a_certificate_is_described_by_its_names_and_its_end(pair: Pair) -> None:
    info = describe(pair.certfile)
    assert info.names == ("localhost", "127.0.0.1", "::1")
    assert info.not_before < dt.datetime.now(dt.UTC) < info.not_after
    assert info.pem.startswith("-----BEGIN CERTIFICATE-----")


def test_an_old_certificate_is_described_by_its_common_name(tmp_path: Path) -> None:
    pair = authority().issue(tmp_path, subject="old.example", alternative_names=False)
    assert describe(pair.certfile).names == ("old.example",)


def test_a_key_is_no_certificate(pair: Pair) -> None:
    with pytest.raises(ConfigError, match="no PEM certificate"):
        describe(pair.keyfile)
