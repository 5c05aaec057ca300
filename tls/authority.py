"""A certificate authority for local names, and the certificates it signs.

Names in, certificates out: no files, and no clock, since `now` is handed in.

Invariant: an authority can sign only the names that it was made for and names that are never on
the internet (name constraints, RFC 5280, 4.2.1.10). Whoever steals its key cannot impersonate
the rest of the internet to those who trust it.
"""

import datetime as dt
import ipaddress
import secrets
import socket
from collections.abc import Iterable
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

ALWAYS: Final = ("localhost", "127.0.0.1", "::1")
"""Names that every certificate has."""

LOCAL_DOMAINS: Final = ("localhost", "local", "test", "internal", "home.arpa", "lan")
"""Domains that are never on the internet: RFC 6761, RFC 6762, RFC 8375, ICANN's `internal`, and a habit."""

LOCAL_NETWORKS: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""Addresses that are never on the internet: RFC 1122, RFC 1918, RFC 3927, RFC 4193, RFC 4291."""

LEAF_LIFE: Final = dt.timedelta(days=90)
"""Short, because it is renewed by itself. (Let's Encrypt: 90; Apple refuses more than 825.)"""

AUTHORITY_LIFE: Final = dt.timedelta(days=3650)
"""Long, because a new one has to be trusted by hand. (mkcert: ten years.)"""

BACKDATED: Final = dt.timedelta(days=1)
"""Certificates begin to be valid earlier than now, for clients whose clocks are slow."""

Key: TypeAlias = ec.EllipticCurvePrivateKey
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_NETWORKS: Final = (ipaddress.IPv4Network, ipaddress.IPv6Network)


def new_key() -> Key:
    """Make a key: ECDSA on P-256, the one curve that every client has."""
    return ec.generate_private_key(ec.SECP256R1())


def new_authority(key: Key, names: Iterable[str], now: dt.datetime) -> x509.Certificate:
    """Make the certificate of an authority that may sign local names, and `names`."""
    permitted: list[x509.GeneralName] = [x509.DNSName(domain) for domain in LOCAL_DOMAINS]
    permitted += [x509.IPAddress(network) for network in LOCAL_NETWORKS]
    for name in sorted(names):
        if not _is_within(name, LOCAL_DOMAINS, LOCAL_NETWORKS):
            address = _address(name)
            permitted.append(x509.IPAddress(ipaddress.ip_network(address)) if address else x509.DNSName(name))
    # Not the same name twice: some trust stores tell authorities apart by their names alone.
    subject = _name("Alphorn development CA", f"{socket.gethostname()[:40]} {secrets.token_hex(4)}")
    return (
        _builder(subject, subject, key, now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .sign(key, hashes.SHA256())
    )


def can_sign(authority: x509.Certificate, key: Key, names: Iterable[str], now: dt.datetime) -> bool:
    """Tell whether an authority may sign these names, and outlives what it signs."""
    try:
        constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return False
    permitted = constraints.permitted_subtrees or []
    domains = [each.value for each in permitted if isinstance(each, x509.DNSName)]
    networks = [each.value for each in permitted if isinstance(each.value, _NETWORKS)]
    return (
        authority.public_key() == key.public_key()
        and authority.not_valid_before_utc <= now
        and authority.not_valid_after_utc >= now + LEAF_LIFE
        and all(_is_within(name, domains, networks) for name in names)
    )


def new_leaf(
    key: Key, authority: x509.Certificate, authority_key: Key, names: Iterable[str], now: dt.datetime
) -> x509.Certificate:
    """Make a server's certificate for `names`."""
    issuer_id = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    # The common name is no host on purpose: clients are to look at the alternative names.
    subject = _name("Alphorn", "development certificate")
    return (
        _builder(subject, authority.subject, key, now, LEAF_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id), critical=False
        )
        .add_extension(
            x509.SubjectAlternativeName([_general(name) for name in sorted(names)]), critical=False
        )
        .sign(authority_key, hashes.SHA256())
    )


def is_signed_by(leaf: x509.Certificate, authority: x509.Certificate) -> bool:
    """Tell whether it was this authority that signed a certificate."""
    try:
        leaf.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def spell_out(names: Iterable[str]) -> frozenset[str]:
    """Return the names a certificate needs for hosts that a server is bound to.

    A wildcard address, or an empty host, stands for the name of this machine. The local names are
    always among them; what a certificate cannot have (a name that is no host name) is left out.
    """
    spelled = {_spell(name.strip("[]").partition("%")[0]) for name in names}  # fe80::1%eth0: no zone
    return frozenset(ALWAYS) | {name for name in spelled if _address(name) or _is_host_name(name)}


def _spell(host: str) -> str:
    address = _address(host)
    if not host or (address is not None and address.is_unspecified):
        return _spell(socket.gethostname())
    return str(address) if address is not None else host.rstrip(".").lower()


def _is_host_name(name: str) -> bool:
    # A certificate has names in ASCII; whoever resolved an international one had to encode it.
    return name.isascii() and len(name) <= 253 and all(0 < len(label) <= 63 for label in name.split("."))


def _is_within(name: str, domains: Iterable[str], networks: Iterable[_Network]) -> bool:
    """Tell whether name constraints permit a name (RFC 5280, 4.2.1.10)."""
    address = _address(name)
    if address is not None:
        return any(address in network for network in networks)
    return any(name == domain or name.endswith("." + domain) for domain in domains)


def _address(name: str) -> _Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _general(name: str) -> x509.GeneralName:
    address = _address(name)
    return x509.DNSName(name) if address is None else x509.IPAddress(address)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: Key, now: dt.datetime, life: dt.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(organization: str, common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
