"""Certificates of clients: whom the server asks, what they are held against.

OpenSSL judges them, in the handshake. What it cannot tell clients is which authorities would do:
Python's `ssl` does not send them that list (`certificate_authorities`), so a browser with several
certificates offers all of them to its user.
"""

import datetime as dt
import re
import ssl
from typing import Final

from cryptography import x509

from ..core.config import Config
from ..core.errors import ConfigError
from ..core.log import error_log
from .certificates import read_file

_MODES: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


def verify_clients(context: ssl.SSLContext, config: Config) -> list[bytes]:
    """Have a context ask clients for certificates, as the settings say.

    Returns:
        The contents of the files that they are held against.

    Raises:
        ConfigError: A file cannot be used; one line with the cause and the mend.
    """
    if config.client_auth == "none":
        return []
    assert config.client_ca is not None  # or there would be no such Config
    context.verify_mode = _MODES[config.client_auth]
    named = f"--client-ca {config.client_ca}"
    authorities = _load(context, config.client_ca, named, b"CERTIFICATE", "certificate")
    if config.client_crl is None:
        # What the operator trusts is trusted, whether it is a root or not.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        return [authorities]
    # Every authority of the chain is asked, as in nginx: an intermediate may be revoked as well.
    # So there has to be an authority above it, and OpenSSL has to go up to the root.
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    _demand_roots(authorities, named)
    return [authorities, _load_revocations(context, config.client_crl)]


def _demand_roots(authorities: bytes, named: str) -> None:
    try:
        certificates = x509.load_pem_x509_certificates(authorities)
    except ValueError as error:  # what OpenSSL has let pass
        raise _damaged(named, "certificate", error) from None
    subjects = {certificate.subject for certificate in certificates}
    for certificate in certificates:
        if certificate.issuer not in subjects:
            raise ConfigError(
                f"{named}: {certificate.subject.rfc4514_string()} is no root; add the authority above it, "
                "which --client-crl cannot do without"
            )


def _load_revocations(context: ssl.SSLContext, path: str) -> bytes:
    named = f"--client-crl {path}"
    lists = _load(context, path, named, b"X509 CRL", "revocation list")
    if b"CERTIFICATE-----" in lists:
        raise ConfigError(f"{named}: has certificates in it, which would be trusted; remove them")
    try:
        ends = [x509.load_pem_x509_crl(block).next_update_utc for block in _CRL.findall(lists)]
    except ValueError as error:
        raise _damaged(named, "revocation list", error) from None
    for end in ends:
        if end is not None and end < dt.datetime.now(dt.UTC):
            error_log.warning(
                "%s: expired on %s; until it is renewed, every certificate of its authority is refused",
                named,
                f"{end:%Y-%m-%d %H:%M} UTC",
            )
    return lists


def _load(context: ssl.SSLContext, path: str, named: str, label: bytes, what: str) -> bytes:
    content = read_file(path, named)
    if b"-----BEGIN %b-----" % label not in content:
        raise ConfigError(f"{named}: no PEM {what} in it; convert it with openssl if it is DER")
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        raise _damaged(named, what, error.reason) from None
    return content


def _damaged(named: str, what: str, cause: object) -> ConfigError:
    return ConfigError(f"{named}: a {what} in it is damaged ({cause}); copy the file again")
