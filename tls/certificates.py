"""The server's certificate: load it with its key, say what it is, say precisely what is wrong with it.

OpenSSL decides whether a pair can be served; this module puts its verdict into one line for the
operator.
"""

import datetime as dt
import ssl
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ..core.config import Config
from ..core.errors import ConfigError
from ..core.log import error_log
from .passwords import Password


class CertificatePair(NamedTuple):
    """The files of a certificate and its key.

    Attributes:
        certfile: PEM, the certificate first, then its chain.
        keyfile: PEM with the key, or None when it is in `certfile`.
    """

    certfile: str
    keyfile: str | None


class CertificateInfo(NamedTuple):
    """What a certificate says.

    Attributes:
        names: The hosts it is for: DNS names and addresses, or the common name of an old one.
        not_before: When it begins to be valid (UTC).
        not_after: When it ends to be valid (UTC).
        pem: The certificate itself, without its chain.
    """

    names: tuple[str, ...]
    not_before: dt.datetime
    not_after: dt.datetime
    pem: str


def certificate_pairs(config: Config) -> list[CertificatePair]:
    """Return the pairs that the settings name: by position, as `Config` has checked."""
    return [CertificatePair(*pair) for pair in zip_longest(config.certfile, config.keyfile)]


def describe(certfile: str) -> CertificateInfo:
    """Read the server's own certificate, which is the first in the file (RFC 8446, 4.4.2).

    Raises:
        ConfigError: The file cannot be read or has no certificate.
    """
    named = f"--certfile {certfile}"
    content = read_file(certfile, named)
    if b"-----BEGIN CERTIFICATE-----" not in content:
        raise ConfigError(f"{named}: no PEM certificate in it; convert it with `openssl x509 -inform der`")
    try:
        certificate = x509.load_pem_x509_certificate(content)
    except ValueError:
        raise ConfigError(f"{named}: its certificate is damaged; copy the file again") from None
    return CertificateInfo(
        names=certificate_names(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        pem=certificate.public_bytes(Encoding.PEM).decode(),
    )


def certificate_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Name the hosts that a certificate is for."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        # Clients of today do not look at it (RFC 9525, 6.3), but it says what was meant.
        common_names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return tuple(str(name.value) for name in common_names)
    hosts = extension.value.get_values_for_type(x509.DNSName)
    addresses = extension.value.get_values_for_type(x509.IPAddress)
    return (*hosts, *map(str, addresses))


def warn_if_not_valid(info: CertificateInfo, certfile: str) -> None:
    """Log a warning when a certificate has expired or is not valid yet."""
    now = dt.datetime.now(dt.UTC)
    if now > info.not_after:
        error_log.warning(
            "--certfile %s: expired on %s; renew it", certfile, f"{info.not_after:%Y-%m-%d %H:%M} UTC"
        )
    elif now < info.not_before:
        error_log.warning(
            "--certfile %s: not valid before %s; check the clock",
            certfile,
            f"{info.not_before:%Y-%m-%d %H:%M} UTC",
        )


def load_pair(context: ssl.SSLContext, pair: CertificatePair, password: Password | None) -> CertificateInfo:
    """Load a certificate, its chain and its key into a context.

    Args:
        context: Where to.
        pair: The files.
        password: That of an encrypted key.

    Returns:
        What the certificate says.

    Raises:
        ConfigError: They cannot be served; one line with the cause and the mend.
    """
    certfile, keyfile = pair
    info = describe(certfile)
    key = f"--keyfile {keyfile}" if keyfile else f"--certfile {certfile}"
    if b"PRIVATE KEY-----" not in read_file(keyfile or certfile, key):
        mend = "give a PEM file that has one" if keyfile else "give it with --keyfile"
        raise ConfigError(f"{key}: no private key in it; {mend}")
    encrypted = False

    def give_password() -> str:
        # Without this, OpenSSL would ask on the terminal, and a service would hang.
        nonlocal encrypted
        encrypted = True
        if password is None:
            raise ConfigError(
                f"{key}: the private key is encrypted; give --keyfile-password-file or --keyfile-password"
            )
        return password.text

    try:
        context.load_cert_chain(certfile, keyfile, give_password)
    except (ssl.SSLError, ValueError) as error:  # ValueError: a password that is too long
        reason = getattr(error, "reason", None) or str(error).partition(" (_ssl.c")[0]
        if reason in _MISMATCH:
            cause = f"the private key is not that of {certfile}; give the one it was made with"
        elif encrypted and password is not None:
            cause = f"{password.named} does not open the private key; check it"
        else:
            cause = f"OpenSSL refuses the certificate, its chain or the key ({reason}); check the files"
        raise ConfigError(f"{key}: {cause}") from None
    return info


# Another key, a key of another type, and the same as OpenSSL 3 puts it.
_MISMATCH = frozenset({"KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"})


def read_file(path: str, named: str) -> bytes:
    """Read a file that the settings name.

    Raises:
        ConfigError: It cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(
            f"{named}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
