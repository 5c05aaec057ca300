"""Certificates for tests: an authority, and leaves it signs, right or wrong in one respect.

ECDSA P-256 throughout: a key and a signature cost well under a millisecond. Nothing is shared
between tests but `authority`, which is made once per process, and `TRUSTS_NOBODY`.
"""

import datetime as dt
import functools
import ipaddress
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
YEAR = dt.timedelta(days=365)

TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For httpx in the clear, which else reads the certificates of the whole world for each client: 20 ms."""


class Pair(NamedTuple):
    """A certificate (with its chain) and its key, on disk."""

    certfile: str
    keyfile: str


class Authority:
    """A certificate authority of its own.

    Attributes:
        certificate: The certificate that signs.
        key: Its key.
        chain: The authorities above it that a server has to send along; none for a root.
        root: The certificate that clients trust.
    """

    def __init__(self, name: str = "Test CA", *, above: "Authority | None" = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        signer = above or self
        subject = _name(name)
        issuer = above.certificate.subject if above else subject
        self.certificate: x509.Certificate = (
            _builder(subject, issuer, self.key, -dt.timedelta(days=1), 10 * YEAR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_usage(signs=True), critical=True)
            .add_extension(_key_identifier(signer.key), critical=False)
            .sign(signer.key, hashes.SHA256())
        )
        self.root: x509.Certificate = above.root if above else self.certificate
        self.chain: list[x509.Certificate] = [self.certificate, *above.chain] if above else []

    @property
    def pem(self) -> str:
        """The root, as a client takes it."""
        return self.root.public_bytes(Encoding.PEM).decode()

    @property
    def own_pem(self) -> str:
        """The certificate that signs."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(
        self,
        folder: Path,
        names: Iterable[str] = LOCAL_NAMES,
        *,
        subject: str = "Test leaf",
        not_before: dt.timedelta = -dt.timedelta(days=1),
        not_after: dt.timedelta = YEAR,
        password: str | None = None,
        alternative_names: bool = True,
    ) -> Pair:
        """Make a key and a certificate for `names`, in two files in `folder`.

        Args:
            folder: Where to; existing files are kept, so one folder may hold many pairs.
            names: Hosts and addresses.
            subject: The common name.
            not_before: When it begins to be valid, from now.
            not_after: When it ends.
            password: Encrypts the key.
            alternative_names: Whether `names` are in the certificate.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(subject), self.certificate.subject, key, not_before, not_after)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs=False), critical=True)
        builder = builder.add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
            critical=False,
        )
        builder = builder.add_extension(_key_identifier(self.key), critical=False)
        if alternative_names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False
            )
        certificate = builder.sign(self.key, hashes.SHA256())
        encryption = BestAvailableEncryption(password.encode()) if password is not None else NoEncryption()
        number = f"{certificate.serial_number:x}"[:12]
        certfile, keyfile = folder / f"{number}.crt.pem", folder / f"{number}.key.pem"
        certfile.write_bytes(b"".join(each.public_bytes(Encoding.PEM) for each in [certificate, *self.chain]))
        keyfile.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        return Pair(str(certfile), str(keyfile))

    def issue_expired(self, folder: Path) -> Pair:
        """Make a pair that was valid until yesterday."""
        return self.issue(folder, not_before=-YEAR, not_after=-dt.timedelta(days=1))

    def revoke(self, *pairs: Pair, lasts: dt.timedelta = YEAR) -> str:
        """Make a revocation list (PEM) of this authority, with the certificates of these pairs on it.

        Args:
            pairs: None of them makes an empty list.
            lasts: How long the list is good for, from now.
        """
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - YEAR)
            .next_update(now + lasts)
            .add_extension(_key_identifier(self.key), critical=False)
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for pair in pairs:
            serial = x509.load_pem_x509_certificate(Path(pair.certfile).read_bytes()).serial_number
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - YEAR)
            builder = builder.add_revoked_certificate(revoked.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()

    def client_context(self, *alpn: str) -> ssl.SSLContext:
        """Make a client's context that trusts this authority, strictly, and offers `alpn`."""
        context = ssl.create_default_context(cadata=self.pem)
        context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


@functools.cache
def authority() -> Authority:
    """Return the authority of this process."""
    return Authority()


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    not_before: dt.timedelta,
    not_after: dt.timedelta,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + not_before)
        .not_valid_after(now + not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_identifier(key: ec.EllipticCurvePrivateKey) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
