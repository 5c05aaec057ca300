"""Passwords of private keys: where they come from, and what is wrong with those places."""

import sys
from pathlib import Path

import pytest

from alphorn.core.config import Config
from alphorn.core.errors import ConfigError
from alphorn.tls.passwords import ask_for_key_password
from support.certificates import Pair, authority
from support.handshake import config_of, context_of

PASSWORD = "open sesame"


@pytest.fixture
def encrypted(tmp_path: Path) -> Pair:
    return authority().issue(tmp_path, password=PASSWORD)


@pytest.mark.parametrize("content", [PASSWORD, f"{PASSWORD}\n", f"{PASSWORD}\r\nanother\n"])
def test_it_is_the_first_line_of_the_file(tmp_path: Path, encrypted: Pair, content: str) -> None:
    file = tmp_path / "password"
    file.write_bytes(content.encode())
    assert context_of(encrypted, keyfile_password_file=str(file)).certificate


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (None, "cannot be read (No such file or directory); check the path"),
        (b"", "its first line is empty; write the password there"),
        (b"\nsecond", "its first line is empty; write the password there"),
        (b"\xff\xfe", "is not UTF-8; write the password into its first line"),
        (b"wrong", "does not open the private key; check it"),
    ],
)
def test_a_bad_file_is_named_in_one_line(
    tmp_path: Path, encrypted: Pair, content: bytes | None, cause: str
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        context_of(encrypted, keyfile_password_file=str(file))
    message = str(caught.value)
    assert f"--keyfile-password-file {file}" in message
    assert cause in message
    assert "\n" not in message
    assert "wrong" not in message


def test_nobody_is_asked_without_need_or_without_a_terminal(
    pair: Pair, encrypted: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", None)  # as in a service
    for config in (
        config_of(pair),
        config_of(encrypted),
        config_of(encrypted, keyfile_password=PASSWORD),
        config_of(encrypted, keyfile_password_file="password"),
        Config(certfile=("missing.pem",)),
    ):
        assert ask_for_key_password(config) is config
