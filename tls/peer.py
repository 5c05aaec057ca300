"""What an application may know about the TLS of its connection: the ASGI `tls` extension (tls 0.2)."""

import functools
import ssl
import sys
from typing import Final

from ..core.asgi import TlsExtension

_DER: Final = 2  # _ssl.ENCODING_DER


def tls_extension(session: ssl.SSLObject) -> TlsExtension:
    """Describe the TLS of a connection whose handshake is done."""
    chain = _client_chain(session)
    return {
        # `ssl` cannot tell; our own contexts can.
        "server_cert": getattr(session.context, "certificate", None),
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(certificate) for certificate in chain],
        "client_cert_name": _subject(chain[0]) if chain else None,
        # A certificate that does not verify ends the handshake, so there is never one to report.
        "client_cert_error": None,
        "tls_version": _version_number(session.version()),
        "cipher_suite": _cipher_number(session.cipher()),
    }


def _client_chain(session: ssl.SSLObject) -> list[bytes]:
    """Return the client's certificates, DER, its own first.

    It is the chain that was verified, up to what `--client-ca` trusts. In a resumed session only the
    client's own is known (RFC 8446, 2.2: certificates are not sent again).
    """
    own = session.getpeercert(binary_form=True)
    if own is None:
        return []
    return _verified_chain(session) or [own]


def _verified_chain(session: ssl.SSLObject) -> list[bytes]:
    if sys.version_info >= (3, 13):
        return session.get_verified_chain()
    # Before, `ssl` has it without offering it, from 3.10 on. (pip takes it from there as well.)
    find = getattr(getattr(session, "_sslobj", None), "get_verified_chain", None)
    certificates = find() if find is not None else None
    return [certificate.public_bytes(_DER) for certificate in certificates or ()]


def _subject(certificate: bytes) -> str:
    """Return the subject of a DER certificate as RFC 4514 writes it."""
    # Few connections have a client certificate; the others need not pay for the import.
    from cryptography import x509  # noqa: PLC0415

    return x509.load_der_x509_certificate(certificate).subject.rfc4514_string()


def _version_number(name: str | None) -> int | None:
    """Turn "TLSv1.3" into 0x0304."""
    return ssl.TLSVersion[name.replace(".", "_")].value if name else None


def _cipher_number(cipher: tuple[str, str, int] | None) -> int | None:
    return _cipher_numbers().get(cipher[0]) if cipher else None


@functools.cache
def _cipher_numbers() -> dict[str, int]:
    """Return the 16-bit IANA number of each cipher that OpenSSL knows.

    OpenSSL's own identifiers have it in their low half (0x03001301 is TLS_AES_128_GCM_SHA256).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    return {cipher["name"]: cipher["id"] & 0xFFFF for cipher in context.get_ciphers()}
