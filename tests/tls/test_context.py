"""The server's context: what it agrees to with real clients, and what it says of bad files."""

import datetime as dt
import logging
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from alphorn.core.config import Config
from alphorn.core.errors import ConfigError
from alphorn.tls.context import server_contexts
from alphorn.tls.handshake import alpn_protocols
from support.certificates import Authority, Pair, authority
from support.handshake import Handshake, context_of

# --- What is agreed


def test_tls_1_3_and_1_2_are_spoken_and_nothing_older(pair: Pair) -> None:
    context = context_of(pair)
    assert Handshake(context, authority().client_context()).client.version() == "TLSv1.3"
    client = authority().client_context()
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert Handshake(context, client).client.version() == "TLSv1.2"
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_only_ciphers_with_forward_secrecy_and_authentication_are_offered(pair: Pair) -> None:
    for cipher in context_of(pair).get_ciphers():
        assert cipher["aead"]
        if cipher["protocol"] != "TLSv1.3":
            assert cipher["name"].startswith("ECDHE-")


def test_the_client_chooses_among_the_ciphers(pair: Pair) -> None:
    context = context_of(pair)
    for cipher in ("ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"):
        client = authority().client_context()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers(f"{cipher}:ECDHE+AESGCM")
        chosen = Handshake(context, client).client.cipher()
        assert chosen is not None
        assert chosen[0] == cipher


def test_there_is_no_renegotiation_and_no_compression(pair: Pair) -> None:
    wanted = ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    assert context_of(pair).options & wanted == wanted


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Config(), ("h2", "http/1.1", "http/1.0")),
        (Config(http2=False), ("http/1.1", "http/1.0")),
        (Config(http1=False), ("h2",)),
    ],
)
def test_alpn_offers_the_protocols_that_are_on(config: Config, expected: tuple[str, ...]) -> None:
    assert alpn_protocols(config) == expected


def test_the_server_prefers_http2(pair: Pair) -> None:
    context = context_of(pair)
    client = authority().client_context("http/1.1", "h2")
    assert Handshake(context, client).client.selected_alpn_protocol() == "h2"


def test_the_chain_is_sent_along(tmp_path: Path) -> None:
    root = Authority("Root")
    pair = Authority("Intermediate", above=root).issue(tmp_path)
    context = context_of(pair)
    assert Handshake(context, root.client_context()).client.version() == "TLSv1.3"


def test_an_encrypted_key_is_opened_with_its_password(tmp_path: Path) -> None:
    pair = authority().issue(tmp_path, password="open sesame")
    context = context_of(pair, keyfile_password="open sesame")
    assert Handshake(context, authority().client_context()).client.version() == "TLSv1.3"


def test_one_file_may_have_both_the_certificate_and_the_key(tmp_path: Path, pair: Pair) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(Path(pair.keyfile).read_bytes() + Path(pair.certfile).read_bytes())
    context = server_contexts(Config(certfile=(str(both),))).choose(None)
    assert Handshake(context, authority().client_context()).client.version() == "TLSv1.3"


def test_the_context_knows_its_certificate(pair: Pair) -> None:
    context = context_of(pair)
    assert context.certificate is not None
    assert context.certificate in Path(pair.certfile).read_text()


# --- What is wrong


@pytest.fixture
def files(tmp_path: Path, pair: Pair) -> Callable[[str], str]:
    """Paths of files by what is wrong with them."""
    certificate, key = Path(pair.certfile).read_bytes(), Path(pair.keyfile).read_bytes()
    rsa_key = rsa.generate_private_key(65537, 2048)
    ed_key = ed25519.Ed25519PrivateKey.generate()
    encrypted = authority().issue(tmp_path, password="open sesame")
    contents = {
        "der.pem": x509.load_pem_x509_certificate(certificate).public_bytes(Encoding.DER),
        "damaged.pem": certificate.replace(b"\nMII", b"\nAAA"),
        "cut.pem": certificate[:200],
        "bad-chain.pem": certificate + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "bad-key.pem": b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        "empty.pem": b"",
        "rsa.pem": rsa_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "ed25519.pem": ed_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "other.pem": Path(authority().issue(tmp_path).keyfile).read_bytes(),
        "certificate.pem": certificate,
        "key.pem": key,
        "encrypted.pem": Path(encrypted.keyfile).read_bytes(),
        "of-encrypted.pem": Path(encrypted.certfile).read_bytes(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder").mkdir()
    return lambda name: str(tmp_path / name)


@pytest.mark.parametrize(
    ("given", "file", "cause"),
    [
        (("missing.pem", "key.pem", None), "--certfile missing.pem", "No such file"),
        (("certificate.pem", "missing.pem", None), "--keyfile missing.pem", "No such file"),
        (("folder", "key.pem", None), "--certfile folder", "cannot be read (Is a directory)"),
        (("der.pem", "key.pem", None), "--certfile der.pem", "no PEM certificate in it"),
        (("empty.pem", "key.pem", None), "--certfile empty.pem", "no PEM certificate in it"),
        (("key.pem", "key.pem", None), "--certfile key.pem", "no PEM certificate in it"),
        (("damaged.pem", "key.pem", None), "--certfile damaged.pem", "damaged"),
        (("cut.pem", "key.pem", None), "--certfile cut.pem", "damaged"),
        (("bad-chain.pem", "key.pem", None), "--keyfile key.pem", "OpenSSL refuses"),
        (("certificate.pem", "bad-key.pem", None), "--keyfile bad-key.pem", "OpenSSL refuses"),
        (("certificate.pem", None, None), "--certfile certificate.pem", "no private key in it; give it with --keyfile"),
        (("certificate.pem", "certificate.pem", None), "--keyfile certificate.pem", "no private key in it"),
        (("certificate.pem", "other.pem", None), "--keyfile other.pem", "is not that of"),
        (("certificate.pem", "rsa.pem", None), "--keyfile rsa.pem", "is not that of"),
        (("certificate.pem", "ed25519.pem", None), "--keyfile ed25519.pem", "is not that of"),
        (("of-encrypted.pem", "encrypted.pem", None), "--keyfile encrypted.pem", "encrypted; give --keyfile-password-file or --keyfile-password"),
        (("of-encrypted.pem", "encrypted.pem", "wrong"), "--keyfile encrypted.pem", "does not open"),
        (("of-encrypted.pem", "encrypted.pem", "x" * 2000), "--keyfile encrypted.pem", "does not open"),
    ],
)  # fmt: skip
def test_a_bad_file_is_named_in_one_line_with_the_cause(
    files: Callable[[str], str], given: tuple[str, str | None, str | None], file: str, cause: str
) -> None:
    certfile, keyfile, password = given
    config = Config(
        certfile=(files(certfile),), keyfile=(files(keyfile),) if keyfile else (), keyfile_password=password
    )
    with pytest.raises(ConfigError) as caught:
        server_contexts(config)
    message = str(caught.value)
    setting, name = file.split()
    assert message.startswith(f"{setting} {files(name)}: ")
    assert cause in message
    assert "; " in message  # and the mend
    assert "\n" not in message


def test_a_server_without_a_certificate_is_told_which_flag_is_missing() -> None:
    with pytest.raises(ConfigError, match="give --certfile"):
        server_contexts(Config())


@pytest.mark.parametrize("validity", ["expired", "too early"])
def test_a_certificate_that_is_not_valid_now_is_a_warning_and_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, validity: str
) -> None:
    tomorrow = dt.timedelta(days=1)
    pair = (
        authority().issue_expired(tmp_path)
        if validity == "expired"
        else authority().issue(tmp_path, not_before=tomorrow)
    )
    context = context_of(pair)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.name == "alphorn.error"
    assert pair.certfile in record.getMessage()
    assert ("expired on" if validity == "expired" else "not valid before") in record.getMessage()
    client = authority().client_context()
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    assert Handshake(context, client).client.version() == "TLSv1.3"
