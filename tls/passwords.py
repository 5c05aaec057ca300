"""The password of encrypted private keys: given, in a file, or asked for on the terminal.

OpenSSL would ask by itself, but a service that has no terminal would then hang, and a server that
renews its certificate as well. So it is asked once, before there is an event loop.
"""

import dataclasses
import getpass
import re
import sys
from pathlib import Path
from typing import Final, NamedTuple

from ..core.config import Config
from ..core.errors import ConfigError

_ENCRYPTED: Final = re.compile(
    rb"^(-----BEGIN ENCRYPTED PRIVATE KEY-----|Proc-Type: 4,ENCRYPTED)", re.MULTILINE
)
"""PKCS #8 (RFC 7468, 11), and the older way of OpenSSL (RFC 1421, 4.6.1.1)."""


class Password(NamedTuple):
    """A password, and what to call it in a message."""

    text: str
    named: str


def key_password(config: Config) -> Password | None:
    """Return the password of encrypted keys, if there is one; a file is read every time.

    Raises:
        ConfigError: The file cannot be read or has nothing in its first line.
    """
    if config.keyfile_password is not None:
        return Password(config.keyfile_password, "the password")
    if config.keyfile_password_file is None:
        return None
    named = f"--keyfile-password-file {config.keyfile_password_file}"
    try:
        lines = Path(config.keyfile_password_file).read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"{named}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{named}: is not UTF-8; write the password into its first line") from None
    if not lines or not lines[0]:
        raise ConfigError(f"{named}: its first line is empty; write the password there")
    return Password(lines[0], named)


def ask_for_key_password(config: Config) -> Config:
    """Ask on the terminal for a password that is needed and was not given.

    Returns:
        The settings, with the password if there was one to ask for and somebody to ask.

    Raises:
        ConfigError: There was no answer.
    """
    if config.keyfile_password is not None or config.keyfile_password_file is not None:
        return config
    encrypted = next(filter(_is_encrypted, config.keyfile or config.certfile), None)
    if encrypted is None or not sys.stdin or not sys.stdin.isatty():
        return config
    try:
        password = getpass.getpass(f"Password of {encrypted}: ")
    except EOFError:
        password = ""
    if not password:
        raise ConfigError(f"no password for {encrypted}: type it, or give --keyfile-password-file")
    return dataclasses.replace(config, keyfile_password=password)


def _is_encrypted(path: str) -> bool:
    try:
        return _ENCRYPTED.search(Path(path).read_bytes()) is not None
    except OSError:
        return False  # whoever loads it will say why
