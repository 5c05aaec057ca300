"""Certificates of clients: whom the server asks, what they are held against.

OpenSSL judges them, in the handshake. What it cannot tell clients is which authorities would do:
Python's `ssl` does not send them that list (`certificate_authorities`), so a browser with several
certificates offers all of them to its user.
"""

import datetime as dt
import re
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509

from ..core.config import Config
from ..core.errors import ConfigError
from ..core.log import error_log

_MODES: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def verify_clients(context: ssl.SSLContext, config: Config) -> None:
    """Have a context ask clients for certificates, as the settings say.

    Raises:
        ConfigError: A file cannot be used; one line with the cause and the mend.
    """
    if config.client_auth == "none":
        return
    assert config.client_ca is not None  # or there would be no such Config
    context.verify_mode = _MODES[config.client_auth]
    # What the operator trusts is trusted, whether it is a root or not.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _load(context, config.client_ca, f"--client-ca {config.client_ca}", b"CERTIFICATE", "certificate")
    if config.client_crl is not None:
        named = f"--client-crl {config.client_crl}"
        # Every authority of the chain is asked, as in nginx: an intermediate may be revoked as well.
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
        content = _load(context, config.client_crl, named, b"X509 CRL", "revocation list")
        if b"-----BEGIN CERTIFICATE-----" in content:
            raise ConfigError(f"{named}: has certificates in it, which would be trusted; remove them")
        _warn_if_expired(content, named)


def _load(context: ssl.SSLContext, path: str, named: str, label: bytes, what: str) -> bytes:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{named}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    if b"-----BEGIN %b-----" % label not in content:
        raise ConfigError(f"{named}: no PEM {what} in it; convert it with openssl if it is DER")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise ConfigError(
            f"{named}: a {what} in it is damaged ({error.reason}); copy the file again"
        ) from None
    return content


def _warn_if_expired(content: bytes, named: str) -> None:
    for block in _CRL.findall(content):
        end = x509.load_pem_x509_crl(block).next_update_utc
        if end is not None and end < dt.datetime.now(dt.UTC):
            error_log.warning(
                "%s: expired on %s; until it is renewed, every certificate of its authority is refused",
                named,
                f"{end:%Y-%m-%d %H:%M} UTC",
            )
