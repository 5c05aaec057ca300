"""Sessions that are resumed: by other workers and after a reload, and never past another judgement of the client."""

import base64
import os
import re
import signal
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alphorn.tls.context import ServerContext, server_contexts
from alphorn.tls.served import POLL_SECONDS, TICKET_KEY_SECONDS, ServedTls
from alphorn.tls.session_tickets import share_tickets
from support.certificates import Authority, Pair, authority
from support.clock import ManualClock
from support.handshake import Handshake, config_of, context_of, contexts_of
from support.load import APP
from support.process import PATIENCE_SECONDS, ServerProcess
from support.visitor import Visitor

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> ssl.SSLContext:
    """A client with a certificate, for whoever asks."""
    client = authority().client_context()
    client.maximum_version = request.param
    client.load_cert_chain(*authority().issue(tmp_path))
    return client


@pytest.fixture
def trusted(tmp_path: Path) -> dict[str, str]:
    """Settings of a server that wants certificates, with files that a test may replace."""
    (tmp_path / "ca.pem").write_text(authority().pem)
    (tmp_path / "crl.pem").write_text(authority().revoke())
    return {
        "client_auth": "required",
        "client_ca": str(tmp_path / "ca.pem"),
        "client_crl": str(tmp_path / "crl.pem"),
    }


def resumes(old: ServerContext, new: ServerContext, client: ssl.SSLContext) -> bool:
    """Shake hands twice, the second time with the session of the first; tell whether it was resumed."""
    session = Handshake(old, client).client.session
    again = Handshake(new, client, session)
    assert again.client.version() is not None
    return again.server.session_reused is True


# --- Who can read a ticket


def test_a_ticket_is_read_by_another_context_with_the_same_files(
    pair: Pair, trusted: dict[str, str], client: ssl.SSLContext
) -> None:
    assert resumes(context_of(pair), context_of(pair), client)
    assert resumes(context_of(pair, **trusted), context_of(pair, **trusted), client)


@pytest.mark.parametrize("workers", [1, 2])
def test_with_several_workers_there_are_as_many_tickets_as_with_one(
    pair: Pair, client: ssl.SSLContext, workers: int
) -> None:
    session = Handshake(context_of(pair, workers=workers), client).client.session
    assert session is not None
    assert session.has_ticket


def test_a_ticket_of_another_certificate_is_not_read(
    pair: Pair, tmp_path: Path, client: ssl.SSLContext
) -> None:
    other = authority().issue(tmp_path, ("localhost", "other.test"))
    assert not resumes(context_of(pair), context_of(other), client)
    contexts = contexts_of(pair, other)  # of one server, by the name that the client wants to reach
    assert not resumes(contexts.choose(None), contexts.choose(b"other.test"), client)


@pytest.mark.parametrize(
    "change",
    [
        {"client_auth": "optional"},
        {"client_auth": "none", "client_ca": None, "client_crl": None},
        {"client_crl": None},
    ],
    ids=str,
)
def test_a_ticket_of_other_settings_about_clients_is_not_read(
    pair: Pair, trusted: dict[str, str], client: ssl.SSLContext, change: dict[str, Any]
) -> None:
    before, after = context_of(pair, **trusted), context_of(pair, **(trusted | change))
    assert not resumes(before, after, client)
    assert not resumes(after, before, client)


def test_a_ticket_of_a_server_with_another_least_version_is_not_read(pair: Pair) -> None:
    client = authority().client_context()
    assert not resumes(context_of(pair), context_of(pair, tls_min="1.3"), client)


@pytest.mark.parametrize("changed", ["client_ca", "client_crl"])
def test_a_ticket_of_before_another_list_is_not_read(
    pair: Pair, trusted: dict[str, str], client: ssl.SSLContext, changed: str
) -> None:
    before = context_of(pair, **trusted)
    more = {"client_ca": Authority("Another").pem, "client_crl": authority().revoke()}
    with Path(trusted[changed]).open("a") as file:
        file.write(more[changed])
    assert not resumes(before, context_of(pair, **trusted), client)


def test_a_client_whose_certificate_is_not_trusted_any_more_is_refused_whatever_ticket_it_has(
    pair: Pair, trusted: dict[str, str], client: ssl.SSLContext
) -> None:
    session = Handshake(context_of(pair, **trusted), client).client.session
    Path(trusted["client_ca"]).write_text(Authority("Another").pem)
    Path(trusted["client_crl"]).write_text(Authority("Another").revoke())
    with pytest.raises(ssl.SSLError, match="alert unknown ca"):
        Handshake(context_of(pair, **trusted), client, session)


def test_a_ticket_of_another_service_is_not_read(pair: Pair, client: ssl.SSLContext) -> None:
    others = server_contexts(config_of(pair))
    others.share_tickets(b"another secret")
    assert not resumes(others.choose(None), context_of(pair), client)


def test_what_keys_are_made_of_cannot_be_shifted_from_one_part_to_the_next(
    pair: Pair, client: ssl.SSLContext
) -> None:
    one, other = context_of(pair), context_of(pair)
    share_tickets(one, b"secret", b"ab", b"c")
    share_tickets(other, b"secret", b"a", b"bc")
    assert not resumes(one, other, client)


# --- For how long


def serve(pair: Pair, clock: ManualClock, secret: bytes | None = None) -> ServedTls:
    served = ServedTls(config_of(pair), clock, secret)
    served.start()
    return served


def test_after_a_reload_of_the_same_files_sessions_are_resumed(
    pair: Pair, clock: ManualClock, client: ssl.SSLContext
) -> None:
    served = serve(pair, clock)
    before = served.choose(None)
    assert served.reload()
    assert served.choose(None) is not before
    assert resumes(before, served.choose(None), client)


def test_a_secret_of_ones_own_is_shared_with_nobody(
    pair: Pair, clock: ManualClock, client: ssl.SSLContext
) -> None:
    assert not resumes(serve(pair, clock).choose(None), serve(pair, clock).choose(None), client)


def test_no_chain_of_sessions_outlives_the_key_of_its_tickets(
    pair: Pair, clock: ManualClock, client: ssl.SSLContext
) -> None:
    """RFC 8446, 4.6.1: in TLS 1.3 whoever resumes gets another ticket, with a life of its own."""
    served = serve(pair, clock)
    clock.advance(TICKET_KEY_SECONDS - clock.now() % TICKET_KEY_SECONDS)  # to the beginning of one
    session = Handshake(served.choose(None), client).client.session
    for _ in range(3):
        clock.advance((TICKET_KEY_SECONDS - 2 * POLL_SECONDS) / 3)
        again = Handshake(served.choose(None), client, session)
        assert again.server.session_reused
        session = again.client.session
    clock.advance(3 * POLL_SECONDS)
    assert not Handshake(served.choose(None), client, session).server.session_reused
    assert resumes(served.choose(None), served.choose(None), client)


def test_workers_change_the_key_at_the_same_time(
    pair: Pair, clock: ManualClock, client: ssl.SSLContext
) -> None:
    old = serve(pair, clock, b"secret")
    clock.advance(1.5 * TICKET_KEY_SECONDS)
    young = serve(pair, clock, b"secret")
    for _ in range(3):
        assert resumes(old.choose(None), young.choose(None), client)
        clock.advance(TICKET_KEY_SECONDS)


# --- What it costs


@pytest.mark.parametrize("with_tickets", [True, False])
def test_sessions_of_clients_are_not_kept(pair: Pair, client: ssl.SSLContext, with_tickets: bool) -> None:
    if not with_tickets:
        client.options |= ssl.OP_NO_TICKET
    context = context_of(pair)
    ends = [
        Handshake(context, client) for _ in range(20)
    ]  # OpenSSL forgets sessions of connections that broke off
    assert context.session_stats()["accept_good"] == len(ends)
    assert context.session_stats()["number"] == 0


# --- Tickets that are none


def elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield what a DER sequence has in it, as tags and contents."""
    while der:
        tag, length, begin = der[0], der[1], 2
        if length > 0x80:
            begin += length - 0x80
            length = int.from_bytes(der[2:begin], "big")
        yield tag, der[begin : begin + length]
        der = der[begin + length :]


def element(tag: int, content: bytes) -> bytes:
    size = len(content)
    digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag]) + (b"" if size < 0x80 else bytes([0x80 + len(digits)])) + digits + content


def with_ticket(session: str, change: Callable[[bytes], bytes]) -> str:
    """Change the ticket in a session as OpenSSL writes it (SSL_SESSION_ASN1 in ssl_asn1.c: [10])."""
    begin, *lines, end = session.splitlines()
    ((_, sequence),) = elements(base64.b64decode("".join(lines)))
    changed = b""
    for tag, content in elements(sequence):
        if tag == 0xAA:
            ((octets, ticket),) = elements(content)
            content = element(octets, change(ticket))  # noqa: PLW2901 - what is written in its place
        changed += element(tag, content)
    return "\n".join([begin, *textwrap.wrap(base64.b64encode(element(0x30, changed)).decode(), 64), end, ""])


TICKETS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "the same": (lambda ticket: ticket, "Reused"),
    "another key": (lambda ticket: os.urandom(16) + ticket[16:], "New"),
    "altered": (lambda ticket: ticket[:60] + bytes([ticket[60] ^ 1]) + ticket[61:], "New"),
    "another seal": (lambda ticket: ticket[:-1] + bytes([ticket[-1] ^ 1]), "New"),
    "cut": (lambda ticket: ticket[:-7], "New"),
    "a name alone": (lambda ticket: ticket[:16], "New"),
    "longer": (lambda ticket: ticket + bytes(64), "New"),
    "noise": (lambda ticket: os.urandom(len(ticket)), "New"),
}


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_ticket_that_is_none_of_ours_is_a_full_handshake(
    needs_tool: Callable[[str], str], pair: Pair, tmp_path: Path, version: str
) -> None:
    (tmp_path / "shop.py").write_text(APP)
    (tmp_path / "ca.pem").write_text(authority().pem)
    session = tmp_path / "session.pem"
    with ServerProcess("shop:app", folder=tmp_path, certificate=pair) as server:
        option = f"-tls{version.replace('.', '_')}"
        command = [needs_tool("openssl"), "s_client", "-connect", f"127.0.0.1:{server.port}", option]

        def connect(*options: str) -> str:
            return subprocess.run(
                [*command, "-CAfile", "ca.pem", "-verify_return_error", "-ign_eof", *options],
                cwd=tmp_path,
                input="GET / HTTP/1.0\r\n\r\n",
                capture_output=True,
                text=True,
                timeout=PATIENCE_SECONDS,
                check=True,
            ).stdout

        connect("-sess_out", str(session))
        original = session.read_text()
        for change, handshake in TICKETS.values():
            session.write_text(with_ticket(original, change))
            said = connect("-sess_in", str(session))
            assert f"{handshake}, TLSv{version}" in said
            assert "HTTP/1.1 200" in said


# --- Where OpenSSL is out of reach

WITHOUT_CTYPES = """
import sys
sys.modules["ctypes"] = None  # as in a Python that was built without it
import ssl
from support.certificates import Pair
from support.handshake import Handshake, context_of

pair, client = Pair(*sys.argv[1:3]), ssl.create_default_context(cafile=sys.argv[3])
asking = {"client_auth": "optional", "client_ca": sys.argv[3]}
print("tickets", [
    Handshake(context_of(pair, **settings), client).client.session.has_ticket
    for settings in ({"workers": 1}, {"workers": 2}, {"workers": 1, **asking})
])
client.maximum_version = ssl.TLSVersion.TLSv1_2
context = context_of(pair, workers=2)
session = Handshake(context, client).client.session
print("resumed", [Handshake(each, client, session).client.session_reused for each in (context, context_of(pair))])
"""


def test_a_python_without_ctypes_has_tickets_where_they_are_of_use(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(authority().pem)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CTYPES, *pair, tmp_path / "ca.pem"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.splitlines() == ["tickets [True, False, False]", "resumed [True, False]"], done.stderr


# --- Workers


@pytest.fixture
def certificate(tmp_path: Path) -> Pair:
    (tmp_path / "shop.py").write_text(APP)
    return authority().issue(tmp_path)


@pytest.fixture
def server(tmp_path: Path, certificate: Pair) -> Iterator[ServerProcess]:
    with ServerProcess(
        "shop:app", "--workers", "2", folder=tmp_path, certificate=certificate, quiet=True
    ) as server:
        for number in (1, 2):
            server.wait_for(f"worker {number} (pid")
        yield server


@pytest.fixture(params=VERSIONS, ids=["1.2", "1.3"])
def visitor(server: ServerProcess, request: pytest.FixtureRequest) -> Visitor:
    return Visitor(server.port, request.param)


no_workers = pytest.mark.skipif("sys.platform == 'win32'", reason="sockets cannot be handed on there")


@no_workers
def test_a_session_of_one_worker_is_resumed_by_another(visitor: Visitor) -> None:
    served = {visitor.visit()}
    while len(served) < 2:  # pytest-timeout bounds it
        served.add(visitor.visit())
        assert visitor.reused


@no_workers
def test_sessions_outlive_a_rolling_restart_but_not_their_certificate(
    server: ServerProcess, visitor: Visitor, certificate: Pair
) -> None:
    old = {int(pid) for pid in re.findall(r"\(pid (\d+)\) is ready", server.log)}
    assert visitor.visit() in old
    server.send_signal(signal.SIGHUP)
    server.wait_for("2 workers were replaced")
    while visitor.visit() in old:  # until they have heard that they were
        pass
    assert visitor.reused
    for file, new in zip(certificate, authority().issue(Path(certificate.certfile).parent), strict=True):
        Path(new).replace(file)
    server.send_signal(signal.SIGHUP)
    server.wait_for("2 workers were replaced", 2)
    visitor.visit()
    assert not visitor.reused
    visitor.visit()
    assert visitor.reused
