"""Listening sockets: what may be bound, on which addresses, and what is said when it cannot be."""

import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphorn.core import sockets
from alphorn.core.config import Config
from alphorn.core.errors import ConfigError
from alphorn.core.sockets import (
    DescriptorBind,
    TcpBind,
    UnixBind,
    address_of,
    close_sockets,
    describe,
    open_sockets,
    parse_bind,
)


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        return probe.connect_ex(("::1", 1, 0, 0)) in {0, errno.ECONNREFUSED}


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 loopback")


class Opened(list[socket.socket]):
    """Sockets that a test has opened; closed after it."""

    def open(self, *bind: str, **settings: object) -> list[socket.socket]:
        opened = open_sockets(Config(bind=bind, **settings))  # type: ignore[arg-type]
        self.extend(opened)
        return opened


@pytest.fixture
def opened() -> Iterator[Opened]:
    mine = Opened()
    yield mine
    close_sockets(mine)


@pytest.fixture
def short_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder that is the working directory: the path of a socket in it is short enough for every system."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def port_of(sock: socket.socket) -> int:
    port = sock.getsockname()[1]
    assert isinstance(port, int)
    return port


# --- What the operator writes


@pytest.mark.parametrize(
    ("text", "bind"),
    [
        ("127.0.0.1:8000", TcpBind("127.0.0.1", 8000)),
        ("localhost:0", TcpBind("localhost", 0)),
        ("example.org:65535", TcpBind("example.org", 65535)),
        (":8000", TcpBind(None, 8000)),
        ("[::1]:8000", TcpBind("::1", 8000)),
        ("[fe80::1%eth0]:80", TcpBind("fe80::1%eth0", 80)),
        ("unix:/run/app.sock", UnixBind("/run/app.sock")),
        ("unix:app.sock", UnixBind("app.sock")),
        ("fd://3", DescriptorBind(3)),
    ],
)
def test_every_kind_of_bind_is_read_and_shown_as_it_was_written(text: str, bind: sockets.Bind) -> None:
    assert parse_bind(text) == bind
    assert str(bind) == text


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("", ":8000"),
        ("8000", ":8000"),
        ("localhost", "localhost:8000"),
        ("localhost:", "localhost:8000"),
        ("localhost:http", "localhost:8000"),
        ("localhost:65536", "localhost:8000"),
        ("localhost:-1", "localhost:8000"),
        (":", ":8000"),
        ("::1", "[::1]:8000"),
        ("::", "[::]:8000"),
        ("::1:8000", "[::1]:8000"),
        ("2001:db8::1", "[2001:db8::1]:8000"),
        ("[::1]", "[::1]:8000"),
        ("[nowhere]:8000", "127.0.0.1:8000"),
        ("one:two:80", "127.0.0.1:8000"),
        ("http://localhost:8000", "localhost:8000"),
        ("local host:8000", "127.0.0.1:8000"),
        ("/run/app.sock", "unix:/run/app.sock"),
        ("unix:", "unix:/run/app.sock"),
        ("unix:a\0b", "unix:/run/app.sock"),
        ("fd://", "fd://3"),
        ("fd://three", "fd://3"),
        ("fd://12345678901", "fd://3"),
    ],
)
def test_a_bad_bind_is_refused_in_one_line_with_one_that_would_do(text: str, mend: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse_bind(text)
    message = str(refusal.value)
    assert f"'{text}'" in message
    assert f"'{mend}'" in message
    assert "\n" not in message


@given(st.text(alphabet="ab01:.[]/%") | st.text())
def test_what_a_refusal_proposes_is_never_refused(text: str) -> None:
    try:
        parse_bind(text)
    except ConfigError as refusal:
        parse_bind(str(refusal).rpartition("; write it like '")[2].removesuffix("'"))


# --- TCP


def test_without_a_bind_host_and_port_are_opened(opened: Opened) -> None:
    (sock,) = opened.open(host="127.0.0.1", port=0)
    assert sock.getsockname()[0] == "127.0.0.1"
    assert describe(sock, secure=False) == f"http://127.0.0.1:{port_of(sock)}"


def test_an_opened_socket_listens_and_neither_blocks_nor_is_inherited(opened: Opened) -> None:
    (sock,) = opened.open("127.0.0.1:0")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert not sock.getblocking()
    assert not sock.get_inheritable()
    with socket.create_connection(sock.getsockname()[:2], timeout=5):
        pass


@needs_ipv6
def test_a_bare_port_is_every_address_of_both_families_on_one_port(opened: Opened) -> None:
    both = opened.open(":0")
    assert {sock.getsockname()[0] for sock in both} == {"0.0.0.0", "::"}
    assert len({port_of(sock) for sock in both}) == 1
    assert {describe(sock, secure=True) for sock in both} == {
        f"https://0.0.0.0:{port_of(both[0])}",
        f"https://[::]:{port_of(both[0])}",
    }


@needs_ipv6
@pytest.mark.parametrize("bind", [":0", "[::]:0", "[::1]:0", "localhost:0"])
def test_ipv6_sockets_never_take_ipv4_connections(opened: Opened, bind: str) -> None:
    for sock in opened.open(bind):
        if sock.family == socket.AF_INET6:
            assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


@needs_ipv6
def test_a_name_is_every_address_it_has_on_one_port(opened: Opened) -> None:
    resolved = socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
    expected = {str(address[0]) for _, _, _, _, address in resolved}
    found = opened.open("localhost:0")
    assert {sock.getsockname()[0] for sock in found} == expected
    assert len({port_of(sock) for sock in found}) == 1


@needs_ipv6
def test_several_binds_are_opened_in_order_and_the_same_one_once(opened: Opened) -> None:
    found = opened.open("127.0.0.1:0", "[::1]:0", "127.0.0.1:0")
    assert [sock.getsockname()[0] for sock in found] == ["127.0.0.1", "::1"]


def test_an_ipv6_address_this_machine_lacks_is_left_out_beside_others() -> None:
    # What `localhost` is in a container without IPv6, whose /etc/hosts has ::1 all the same.
    documentation = (socket.AF_INET6, ("2001:db8::1", 0, 0, 0))
    loopback = (socket.AF_INET, ("127.0.0.1", 0))
    found = sockets._listen_on_all([documentation, loopback], 0, 10)
    try:
        assert [sock.family for sock in found] == [socket.AF_INET]
    finally:
        close_sockets(found)


@needs_ipv6
def test_a_port_that_is_free_on_one_address_only_is_not_taken() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        taken = port_of(other)
        both = [(socket.AF_INET, ("127.0.0.1", 0)), (socket.AF_INET6, ("::1", 0, 0, 0))]
        with pytest.raises(OSError, match="in use") as refusal:
            sockets._listen_on_all(both, taken, 10)
        assert refusal.value.errno == errno.EADDRINUSE
        with socket.create_server(("127.0.0.1", taken)):  # the first was closed again
            pass


def test_a_port_in_use_is_named_with_the_mend(opened: Opened) -> None:
    (first,) = opened.open("127.0.0.1:0")
    taken = f"127.0.0.1:{port_of(first)}"
    with pytest.raises(ConfigError, match=rf"^cannot listen on {taken}: the port is in use; .*another port$"):
        opened.open(taken)


def test_of_several_binds_none_stays_open_when_one_fails(opened: Opened, short_folder: Path) -> None:
    (first,) = opened.open("127.0.0.1:0")
    with pytest.raises(ConfigError, match="in use"):
        opened.open("unix:app.sock", f"127.0.0.1:{port_of(first)}")
    assert not (short_folder / "app.sock").exists()


@pytest.mark.parametrize("host", ["192.0.2.1", pytest.param("[2001:db8::1]", marks=needs_ipv6)])
def test_an_address_of_another_machine_is_refused(opened: Opened, host: str) -> None:
    with pytest.raises(ConfigError, match=r"this machine has no such address; choose one"):
        opened.open(f"{host}:0")


@pytest.mark.parametrize("host", ["a..b", "x" * 64])
def test_a_name_that_cannot_exist_is_refused(opened: Opened, host: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^cannot listen on {host}:0: the host cannot be looked up .*spelling"
    ):
        opened.open(f"{host}:0")


def test_a_port_without_the_privilege_is_explained() -> None:
    refusal = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    assert sockets._explain(TcpBind("127.0.0.1", 80), refusal).startswith(
        "ports below 1024 need a privilege; choose"
    )


def test_a_failure_nobody_foresaw_still_has_its_cause() -> None:
    refusal = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    assert "Too many open files" in sockets._explain(TcpBind("127.0.0.1", 80), refusal)


# --- Unix sockets


def test_a_unix_socket_is_open_to_every_user_and_its_file_goes_with_it(short_folder: Path) -> None:
    file = short_folder / "app.sock"
    found = open_sockets(Config(bind=("unix:app.sock",)))
    assert stat.S_IMODE(file.stat().st_mode) == 0o666
    assert describe(found[0], secure=False) == "unix:app.sock"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("app.sock")
    close_sockets(found)
    assert not file.exists()


def test_the_file_is_found_again_from_another_working_directory(
    short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = open_sockets(Config(bind=("unix:app.sock",)))
    monkeypatch.chdir("/")
    close_sockets(found)
    assert not (short_folder / "app.sock").exists()


def test_a_socket_closed_by_somebody_else_leaves_no_file(short_folder: Path) -> None:
    found = open_sockets(Config(bind=("unix:app.sock",)))
    found[0].close()  # as an asyncio server does
    close_sockets(found)
    assert not (short_folder / "app.sock").exists()


@pytest.mark.usefixtures("short_folder")
def test_a_stale_socket_file_is_replaced(opened: Opened) -> None:
    killed = socket.socket(socket.AF_UNIX)
    killed.bind("app.sock")
    killed.listen()
    killed.close()
    opened.open("unix:app.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("app.sock")


@pytest.mark.usefixtures("short_folder")
def test_a_live_socket_file_is_not_replaced(opened: Opened) -> None:
    opened.open("unix:app.sock")
    with pytest.raises(
        ConfigError, match=r"^cannot listen on unix:app.sock: another server listens there; stop it"
    ):
        opened.open("unix:app.sock")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("app.sock")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full backlog refuses, as a dead server does")
@pytest.mark.usefixtures("short_folder")
def test_a_live_socket_whose_backlog_is_full_is_not_replaced(opened: Opened) -> None:
    opened.open("unix:app.sock", backlog=1)
    clients: list[socket.socket] = []
    try:
        while True:
            client = socket.socket(socket.AF_UNIX)
            clients.append(client)
            client.setblocking(False)
            try:
                client.connect("app.sock")
            except BlockingIOError:
                break
        with pytest.raises(ConfigError, match="another server listens there"):
            opened.open("unix:app.sock")
    finally:
        for client in clients:
            client.close()


def put_link(path: Path) -> None:
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("put", [Path.touch, Path.mkdir, put_link])
def test_what_is_not_a_socket_is_not_touched(
    opened: Opened, short_folder: Path, put: Callable[[Path], None]
) -> None:
    put(short_folder / "app.sock")
    before = os.lstat("app.sock")
    with pytest.raises(ConfigError, match="what is there is not a socket; choose another path"):
        opened.open("unix:app.sock")
    assert os.lstat("app.sock") == before


def test_a_file_that_another_server_has_put_there_since_is_left(short_folder: Path) -> None:
    found = open_sockets(Config(bind=("unix:app.sock",)))
    (short_folder / "app.sock").unlink()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("app.sock")
        close_sockets(found)
        assert (short_folder / "app.sock").exists()


@pytest.mark.usefixtures("short_folder")
def test_closing_twice_is_harmless() -> None:
    found = open_sockets(Config(bind=("unix:app.sock", "127.0.0.1:0")))
    close_sockets(found)
    close_sockets(found)


def test_a_copy_of_a_unix_socket_does_not_remove_the_file(opened: Opened, short_folder: Path) -> None:
    (sock,) = opened.open("unix:app.sock")
    close_sockets([sock.dup()])
    assert (short_folder / "app.sock").exists()


def test_a_path_that_is_too_long_is_refused(opened: Opened) -> None:
    with pytest.raises(ConfigError, match="AF_UNIX path too long; choose a shorter path"):
        opened.open("unix:/tmp/" + "x" * 120)


@pytest.mark.parametrize("path", ["missing/app.sock", "file/app.sock"])
def test_a_path_without_its_folder_is_refused(opened: Opened, short_folder: Path, path: str) -> None:
    (short_folder / "file").touch()
    with pytest.raises(ConfigError, match="there is no such folder; make it"):
        opened.open(f"unix:{path}")


# --- Inherited descriptors

INHERIT = """
import socket, sys
from alphorn.core.config import Config
from alphorn.core.sockets import close_sockets, describe, open_sockets
found = open_sockets(Config(bind=(f"fd://{sys.argv[1]}",)))
print(describe(found[0], secure=False), found[0].getblocking(), found[0].get_inheritable())
close_sockets(found)
"""


def test_an_inherited_listening_socket_is_adopted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        descriptor = server.fileno()
        child = subprocess.run(
            [sys.executable, "-c", INHERIT, str(descriptor)],
            pass_fds=[descriptor],
            capture_output=True,
            text=True,
            check=False,
        )
        assert child.stderr == ""
        assert child.stdout == f"http://127.0.0.1:{port_of(server)} False False\n"


def test_an_inherited_unix_socket_keeps_its_file(short_folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("app.sock")
        server.listen()
        close_sockets(open_sockets(Config(bind=(f"fd://{os.dup(server.fileno())}",))))
    assert (short_folder / "app.sock").exists()


def test_a_descriptor_that_is_not_open_is_refused(opened: Opened) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    os.close(writing)
    with pytest.raises(
        ConfigError, match=rf"^cannot listen on fd://{writing}: no such descriptor is open; have"
    ):
        opened.open(f"fd://{writing}")


def test_a_descriptor_that_does_not_listen_is_refused_and_left_open(opened: Opened) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as silent,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
        Path(os.devnull).open() as file,
    ):
        for other in (silent, datagrams, file):
            with pytest.raises(ConfigError, match="it is no listening stream socket; have"):
                opened.open(f"fd://{other.fileno()}")
            os.fstat(other.fileno())


# --- What applications see


@pytest.mark.parametrize(
    ("sockname", "address"),
    [
        (("127.0.0.1", 80), ("127.0.0.1", 80)),
        (("::1", 80, 0, 0), ("::1", 80)),
        (("::ffff:192.0.2.7", 80, 0, 0), ("192.0.2.7", 80)),
        ("/run/app.sock", ("/run/app.sock", None)),
        (b"\0app", ("@app", None)),
        (b"\0a\0b", ("@a\0b", None)),
        ("", None),
        (b"", None),
        (None, None),
    ],
    ids=repr,
)
def test_addresses_are_shown_as_asgi_has_them(sockname: object, address: object) -> None:
    assert address_of(sockname) == address


@needs_ipv6
def test_an_ipv4_client_of_a_dual_stack_socket_is_shown_as_ipv4() -> None:
    with (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server,
        socket.create_connection(("127.0.0.1", port_of(server)), timeout=5) as client,
    ):
        accepted, peer = server.accept()
        with accepted:
            assert peer[0].startswith("::ffff:")
            assert address_of(peer) == client.getsockname()


@pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")
def test_an_abstract_unix_socket_is_described_by_its_name() -> None:
    name = f"alphorn-{os.getpid()}-{os.urandom(4).hex()}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0{name}")
        assert describe(server, secure=False) == f"unix:@{name}"


def test_a_unix_socket_without_a_name_is_described_without_one() -> None:
    with socket.socket(socket.AF_UNIX) as unbound:
        assert describe(unbound, secure=False) == "unix:"
