"""Several certificates: who gets which, by the name that is asked for (SNI)."""

import asyncio
import contextlib
import ssl
from collections.abc import Sequence

import pytest
from cryptography.x509 import load_der_x509_certificate

from alphorn.core.config import Config
from alphorn.tls.certificates import certificate_names, describe
from alphorn.tls.client_hello import HEADER_BYTES
from support.certificates import Pair, authority
from support.door import open_door
from support.handshake import Handshake, config_of, contexts_of
from support.waiting import turns, within

NAMES = [
    ("first.test",),
    ("*.example.test", "example.test"),
    ("www.example.test", "Upper.Test"),
    ("*.example.test", "www.example.test", "late.test"),
    ("partial*.test", "*.*.deep.test", "xn--bcher-kva.test", "192.0.2.1"),
]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Pair]:
    folder = tmp_path_factory.mktemp("pairs")
    return [authority().issue(folder, names) for names in NAMES]


def anybody() -> ssl.SSLContext:
    """A client that takes any certificate."""
    client = authority().client_context()
    client.check_hostname = False
    return client


def served_to(asking: str | None, pairs: Sequence[Pair]) -> int:
    """Ask for a name; return the number of the certificate that came."""
    context = contexts_of(*pairs).choose(asking.encode("idna") if asking else None)
    return NAMES.index(names_shown_to(Handshake(context, anybody()).client))


def names_shown_to(client: ssl.SSLObject) -> tuple[str, ...]:
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    return certificate_names(load_der_x509_certificate(shown))


@pytest.mark.parametrize(
    ("asking", "number"),
    [
        ("first.test", 0),
        ("example.test", 1),
        ("other.example.test", 1),
        ("www.example.test", 2),
        ("WWW.Example.TEST", 2),
        ("upper.test", 2),
        ("late.test", 3),
        ("b\u00fccher.test", 4),
    ],
)
def test_a_client_gets_the_first_certificate_with_its_name_before_any_wildcard(
    pairs: Sequence[Pair], asking: str, number: int
) -> None:
    assert served_to(asking, pairs) == number


@pytest.mark.parametrize(
    "asking",
    [
        None,
        "unknown.test",
        "test",
        "a.b.example.test",
        "partially.test",
        "a.b.deep.test",
        "first.test.evil.test",
        "xfirst.test",
    ],
)
def test_a_name_that_no_certificate_has_gets_the_first(pairs: Sequence[Pair], asking: str | None) -> None:
    assert served_to(asking, pairs) == 0


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"caf\xc3\xa9.test", b"*.example.test", b"a\x1b[31m.test", b"."]
)
def test_a_name_that_is_no_host_name_does_no_harm(pairs: Sequence[Pair], name: bytes) -> None:
    assert contexts_of(*pairs).choose(name).certificate


async def names_served(port: int, name: str | None) -> tuple[str, ...]:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=anybody(), server_hostname=name or ""
    )
    await reader.readexactly(6)
    shown = names_shown_to(writer.get_extra_info("ssl_object"))
    writer.close()
    await writer.wait_closed()
    return shown


async def test_real_clients_get_their_certificate_and_the_application_sees_which(
    pairs: Sequence[Pair],
) -> None:
    contexts = contexts_of(*pairs)
    async with open_door(config_of(*pairs), contexts.choose) as door:
        for name, number in (("www.example.test", 2), ("a.example.test", 1), (None, 0), ("late.test", 3)):
            assert await names_served(door.port, name) == NAMES[number]
            told = door.handlers[-1].facts.tls
            assert told is not None
            assert told["server_cert"] == describe(pairs[number].certfile).pem


def client_hello(name: str) -> tuple[ssl.SSLObject, ssl.MemoryBIO, bytes]:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = anybody().wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return client, incoming, outgoing.read()


async def test_a_name_in_a_client_hello_of_several_records_is_read(pairs: Sequence[Pair]) -> None:
    client, incoming, hello = client_hello("www.example.test")
    message = hello[HEADER_BYTES:]
    records = [
        b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in (message[:3], message[3:90], message[90:])
    ]
    async with open_door(config_of(*pairs), contexts_of(*pairs).choose) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        with contextlib.closing(writer):
            for record in records:
                writer.write(record)
                await writer.drain()
                await turns(2)  # so that the server, in the same loop, reads it for itself
            while True:
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                    break
                async with within("an answer"):
                    incoming.write(await reader.read(65536))
        assert names_shown_to(client) == NAMES[2]


async def test_a_name_that_is_not_ascii_is_no_noise(
    pairs: Sequence[Pair], capfd: pytest.CaptureFixture[str]
) -> None:
    _, _, hello = client_hello("abcdefgh.test")
    async with open_door(Config(), contexts_of(*pairs).choose) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        with contextlib.closing(writer):
            writer.write(hello.replace(b"abcdefgh", b"abc\xff\xfe\x80gh"))
            async with within("an answer"):
                assert await reader.readexactly(3) == b"\x16\x03\x03"  # as for any name that is not ours
    assert capfd.readouterr().err == ""
