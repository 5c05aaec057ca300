"""From the settings to listening sockets, and from socket addresses to what people and applications see.

Invariants:
- Every IPv6 socket opened here has IPV6_V6ONLY set, so `[::]:8000` is IPv6 alone on every system and
  with any number of workers; both families are always two sockets.
- A socket that is returned is bound, listening, non-blocking and not inherited by child processes.
- Of several addresses either all are open or none is.
- A socket file is removed only by who made it, and only while it is still the same file.
"""

import errno
import ipaddress
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from . import handover
from .asgi import Address
from .config import Config
from .errors import ConfigError
from .identity import Owner, become, find_owner
from .systemd import passed_descriptors

HIGHEST_PORT = 65535
# The kernel picks a port that is free for the first address; that it is taken on another is rare.
_FREE_PORT_ATTEMPTS = 10


class TcpBind(NamedTuple):
    """A host, name or address, and a port; no host is every address, port 0 any free port."""

    host: str | None
    port: int

    def __str__(self) -> str:
        return _authority(self.host or "", self.port)


class UnixBind(NamedTuple):
    """The path of a unix socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class DescriptorBind(NamedTuple):
    """A file descriptor that was inherited, with a socket that listens already."""

    descriptor: int

    def __str__(self) -> str:
        return f"fd://{self.descriptor}"


class SystemdBind(NamedTuple):
    """The listening sockets that systemd has passed on under a name (`FileDescriptorName=`); all, if it is empty."""

    name: str

    def __str__(self) -> str:
        return f"systemd://{self.name}"


Bind: TypeAlias = TcpBind | UnixBind | DescriptorBind | SystemdBind
Endpoint: TypeAlias = tuple[int, tuple[Any, ...]]
"""A family and a socket address of it, whose first two parts are host and port."""


class UnixListener(socket.socket):
    """A unix socket that knows the file it has made.

    Attributes:
        file: Absolute path of the socket file.
        identity: Its device and inode number; None until there is a file (and in a copy of this socket).
    """

    file: Path
    identity: tuple[int, int] | None = None


class Listeners(NamedTuple):
    """The listening sockets of a server.

    Attributes:
        serving: Those on which the application is served.
        redirecting: Those on which clients are sent to https.
        clear: Those on which the application is served without TLS, though there is TLS.
    """

    serving: list[socket.socket]
    redirecting: list[socket.socket]
    clear: list[socket.socket]

    @property
    def numbers(self) -> list[list[int]]:
        """The descriptors of each."""
        return [[sock.fileno() for sock in sockets] for sockets in self]

    def descriptors(self) -> list[int]:
        """List the descriptors of all."""
        return [number for numbers in self.numbers for number in numbers]

    def close(self) -> None:
        """Close them; see `close_sockets`."""
        close_sockets(sock for sockets in self for sock in sockets)


# --- What the operator wrote


def parse_bind(text: str) -> Bind:
    """Read `host:port`, `[v6]:port`, `:port`, `unix:/path`, `fd://N` or `systemd://NAME`.

    Raises:
        ConfigError: It is none of these; the message proposes one that is.
    """
    try:
        return _read_bind(text)
    except ValueError as cause:
        raise ConfigError(f"the bind '{text}' {cause}; write it like '{_propose_bind(text)}'") from None


def _read_bind(text: str) -> Bind:
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path:
            raise ValueError("has no path")
        return UnixBind(path)
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not _is_number(number):
            raise ValueError("has no number of a file descriptor")
        return DescriptorBind(int(number))
    if text.startswith("systemd://"):
        name = text.removeprefix("systemd://")
        if not name.isprintable() or ":" in name:  # as systemd.socket(5) has it
            raise ValueError("has no name of a socket")
        return SystemdBind(name)
    return _read_tcp(text)


def _read_tcp(text: str) -> TcpBind:
    if "/" in text or any(character.isspace() for character in text):
        raise ValueError("is no host and port")
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        raise ValueError("has no port")
    if not _is_number(port) or int(port) > HIGHEST_PORT:
        raise ValueError(f"has no port from 0 to {HIGHEST_PORT}")
    if host.startswith("[") and host.endswith("]"):
        if not _is_ipv6(host[1:-1]):
            raise ValueError("has no IPv6 address in its brackets")
        return TcpBind(host[1:-1], int(port))
    if ":" in host:
        raise ValueError("has no brackets around its IPv6 address")
    return TcpBind(host or None, int(port))


def _propose_bind(text: str) -> str:
    """Find the bind that a bad one was probably meant to be."""
    if text.startswith("fd://"):
        return "fd://3"
    if text.startswith("systemd:"):
        return "systemd://"
    if text.startswith(("unix:", "/")):
        return "unix:/run/app.sock"
    host, _, port = text.rpartition(":")
    guesses = (
        f"[{host}]:{port}",
        f"[{text}]:8000",
        f":{text}",
        f"{text}:8000",
        f"{host}:8000",
        text.rpartition("/")[2],
    )
    for guess in guesses:
        with suppress(ValueError):
            _read_bind(guess)
            return guess
    return "127.0.0.1:8000"


def parse_admin_bind(text: str) -> Bind:
    """Read an address of `--admin-bind`: a unix socket, or a port that no other machine can reach.

    Raises:
        ConfigError: Others could reach it; or it is no address, or cannot be looked up.
    """
    bind = parse_bind(text)
    if isinstance(bind, UnixBind) or (isinstance(bind, TcpBind) and bind.host and _is_loopback(bind)):
        return bind
    raise ConfigError(
        f"--admin-bind {text}: who is not on this machine could reach it; write it like "
        "'unix:/run/app-admin.sock' or '127.0.0.1:9000'"
    )


def _is_loopback(bind: TcpBind) -> bool:
    try:
        return all(ipaddress.ip_address(address[0]).is_loopback for _, address in _resolve(bind))
    except OSError as error:
        raise ConfigError(f"--admin-bind {bind}: {_explain(bind, error)}") from error
    except ValueError:  # an address with a zone, which loopback has not
        return False


def _is_number(text: str) -> bool:
    # More than nine digits would not fit the C int that descriptors are.
    return text.isascii() and text.isdecimal() and len(text) <= 9


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


# --- Opening


def open_listeners(config: Config) -> Listeners:
    """Open all that the settings name.

    Raises:
        ConfigError: One of them cannot be opened; those opened before it are closed again.
    """
    listeners = Listeners([], [], [])
    try:
        listeners.serving.extend(open_sockets(config))
        listeners.clear.extend(_open_for_application(config, map(parse_bind, config.clear_bind)))
        listeners.redirecting.extend(open_binds(map(parse_bind, config.redirect_bind), config.backlog))
        _refuse_twice(listeners)
    except BaseException:
        listeners.close()
        raise
    return listeners


def open_as_user(config: Config) -> Listeners:
    """Open all that the settings name, which may need root, and be the user of the settings from then on.

    Raises:
        ConfigError: A socket cannot be opened, or this process may not become that user.
    """
    listeners = open_listeners(config)
    try:
        become(config)
    except BaseException:
        listeners.close()
        raise
    return listeners


def adopt_listeners(numbers: Iterable[Iterable[int]]) -> Listeners:
    """Take over the descriptors of listening sockets that another process has opened, and cares for.

    Args:
        numbers: Its `Listeners.numbers`.
    """
    return Listeners(*([_adopt(number) for number in each] for each in numbers))


def open_sockets(config: Config) -> list[socket.socket]:
    """Open what `bind`, or else `host` and `port`, names.

    `:PORT` is every address of both families (IPv4 alone where the kernel has no IPv6), and a host
    name is every address it has. All sockets of one bind have the same port, port 0 included.

    A socket file is made with mode 0666 unless the settings say otherwise: the proxy in front runs as
    another user and has to write to the file to connect, and a port on loopback is open to every local
    user too. nginx does the same.

    Raises:
        ConfigError: One of them cannot be opened; those opened before it are closed again.
    """
    binds = [parse_bind(bind) for bind in config.bind] or [TcpBind(config.host, config.port)]
    return _open_for_application(config, binds)


def _open_for_application(config: Config, binds: Iterable[Bind]) -> list[socket.socket]:
    owner = None
    if config.socket_owner is not None:
        user, _, group = config.socket_owner.partition(":")
        owner = find_owner(user, group, f"--socket-owner {config.socket_owner}")
    return open_binds(binds, config.backlog, int(config.socket_mode, 8), owner)


def open_binds(
    binds: Iterable[Bind], backlog: int, mode: int = 0o666, owner: Owner | None = None
) -> list[socket.socket]:
    """Open the sockets of some addresses; see `open_sockets`.

    Args:
        binds: The addresses; what is there twice is opened once.
        backlog: Connections the kernel may hold for each that were not accepted yet.
        mode: Who may connect to unix sockets, as the mode of their files.
        owner: Who owns these files, if it is not this process's user.

    Raises:
        ConfigError: One of them cannot be opened; those opened before it are closed again.
    """
    sockets: list[socket.socket] = []
    try:
        for bind in dict.fromkeys(binds):
            sockets += _open(bind, backlog, mode, owner)
    except BaseException:
        close_sockets(sockets)
        raise
    return sockets


def _refuse_twice(listeners: Listeners) -> None:
    """Refuse two binds that have taken over the same descriptor, which each of them would close.

    Raises:
        ConfigError: There are such.
    """
    known: set[int] = set()
    twice = False
    for sock in (sock for sockets in listeners for sock in sockets):
        if sock.fileno() in known:
            sock.detach()
            twice = True
        known.add(sock.fileno())
    if twice:
        raise ConfigError("two binds name the same socket (fd:// or systemd://); drop one of them")


def close_sockets(sockets: Iterable[socket.socket]) -> None:
    """Close sockets, and remove the socket files that `open_sockets` made and nobody has replaced."""
    for sock in sockets:
        # Before closing: an open socket keeps its inode number from being given to another file.
        if (
            isinstance(sock, UnixListener)
            and sock.identity is not None
            and not handover.is_given(sock)
            and _identity(sock.file) == sock.identity
        ):
            with suppress(OSError):  # one that cannot be removed is stale, and the next start replaces it
                sock.file.unlink()
        sock.close()


def _open(bind: Bind, backlog: int, mode: int, owner: Owner | None) -> list[socket.socket]:
    name = str(bind)
    sockets = [_inherit(bind, descriptor) for descriptor in handover.take(name)]
    sockets = sockets or _open_anew(bind, backlog, mode, owner)
    handover.note(name, sockets)
    return sockets


def _inherit(bind: Bind, descriptor: int) -> socket.socket:
    """Take over what the process before had open."""
    if not isinstance(bind, UnixBind):
        return _adopt(descriptor)
    sock = UnixListener(fileno=descriptor)
    sock.file = Path(bind.path).absolute()
    sock.identity = _identity(sock.file)
    sock.set_inheritable(False)
    return sock


def _open_anew(bind: Bind, backlog: int, mode: int, owner: Owner | None) -> list[socket.socket]:
    try:
        match bind:
            case TcpBind():
                return _open_tcp(bind, backlog)
            case UnixBind():
                return [_open_unix(bind, backlog, mode, owner)]
            case DescriptorBind():
                return [_adopt(bind.descriptor)]
            case SystemdBind():
                return _adopt_all(bind)
    except OSError as error:
        raise ConfigError(f"cannot listen on {bind}: {_explain(bind, error)}") from error


def _open_tcp(bind: TcpBind, backlog: int) -> list[socket.socket]:
    endpoints = _resolve(bind)
    attempts = _FREE_PORT_ATTEMPTS if bind.port == 0 else 1
    while True:
        try:
            return _listen_on_all(endpoints, bind.port, backlog)
        except OSError as error:
            attempts -= 1
            if error.errno != errno.EADDRINUSE or attempts == 0:
                raise


def _resolve(bind: TcpBind) -> list[Endpoint]:
    """List what a bind stands for."""
    if bind.host is None:
        every_ipv4 = "0.0.0.0"  # noqa: S104 - it is what the operator asks for
        return [(socket.AF_INET, (every_ipv4, bind.port)), (socket.AF_INET6, ("::", bind.port, 0, 0))]
    try:
        found = socket.getaddrinfo(bind.host, bind.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:  # an impossible host name, such as "a..b"
        raise socket.gaierror(socket.EAI_NONAME, str(error)) from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


def _listen_on_all(endpoints: Iterable[Endpoint], port: int, backlog: int) -> list[socket.socket]:
    """Listen on one port of several addresses; of many, an IPv6 address this machine lacks is left out."""
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, (host, _, *rest) in endpoints:
            try:
                sock = _listen_on(family, (host, port, *rest), backlog)
            except OSError as error:
                # No IPv6 in the kernel, or none configured, while /etc/hosts still says `::1 localhost`.
                if family != socket.AF_INET6 or error.errno not in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
                    raise
                missing = error
            else:
                sockets.append(sock)
                port = sock.getsockname()[1]
    except BaseException:
        close_sockets(sockets)
        raise
    if missing is not None and not sockets:
        raise missing
    return sockets


def _listen_on(family: int, address: tuple[Any, ...], backlog: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # after a restart, not to wait for TIME_WAIT; on Windows it means to share
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _open_unix(bind: UnixBind, backlog: int, mode: int, owner: Owner | None) -> socket.socket:
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError(f"cannot listen on {bind}: this system has no unix sockets; bind a host and port")
    _remove_stale(Path(bind.path))
    sock = UnixListener(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        mask = os.umask(0o177)  # so that there is no moment at which anybody else may connect
        try:
            sock.bind(bind.path)  # as it was given: the system limits its length
        finally:
            os.umask(mask)
        sock.file = Path(bind.path).absolute()
        sock.identity = _identity(sock.file)
        if owner is not None:
            user, group = (-1 if number is None else number for number in owner[:2])
            os.chown(sock.file, user, group, follow_symlinks=False)
        sock.file.chmod(mode)
        sock.listen(backlog)
    except BaseException:
        close_sockets([sock])
        raise
    sock.setblocking(False)
    return sock


def _remove_stale(file: Path) -> None:
    """Remove the socket file of a server that was killed; refuse anything else that is there."""
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # a server with a full backlog would let us wait; so it is EAGAIN
        try:
            probe.connect(str(file))
        except ConnectionRefusedError:
            file.unlink()
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        status = file.lstat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _adopt_all(bind: SystemdBind) -> list[socket.socket]:
    try:
        descriptors = passed_descriptors(bind.name)
    except ConfigError as error:
        raise ConfigError(f"cannot listen on {bind}: {error}") from None
    sockets: list[socket.socket] = []
    try:
        sockets.extend(map(_adopt, descriptors))
    except BaseException:
        close_sockets(sockets)
        raise
    return sockets


def _adopt(descriptor: int) -> socket.socket:
    sock = socket.socket(fileno=descriptor)
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()  # whatever it is, it is not ours to close
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


# --- When the system refuses

_TCP_FAILURES = {
    errno.EADDRINUSE: "the port is in use; stop the program that has it, or choose another port",
    errno.EACCES: "ports below 1024 need a privilege; choose a higher one, or grant CAP_NET_BIND_SERVICE",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose one of its own, or :PORT for every address",
    errno.EAFNOSUPPORT: "this machine has no IPv6; choose an IPv4 address",
}
_UNIX_FAILURES = {
    errno.EADDRINUSE: "another server listens there; stop it, or choose another path",
    errno.EEXIST: "what is there is not a socket; choose another path, or move it away",
    errno.EPERM: "this user may not give it to another (--socket-owner); start as root, or choose a group of its own",
    errno.EACCES: "this user may not write there; choose another folder, or change its permissions",
    errno.ENOENT: "there is no such folder; make it, or choose another path",
    errno.ENOTDIR: "there is no such folder; make it, or choose another path",
}
_DESCRIPTOR_FAILURES = {
    errno.EBADF: "no such descriptor is open; have the parent process pass it on",
    errno.ENOTSOCK: "it is no listening stream socket; have the parent process listen on it",
}


def _explain(bind: Bind, error: OSError) -> str:
    """Say in one line why a bind failed, and the mend."""
    if isinstance(error, socket.gaierror):
        return f"the host cannot be looked up ({error.strerror}); check its spelling, or give an address"
    match bind:
        case TcpBind():
            known = _TCP_FAILURES
        case UnixBind():
            known = _UNIX_FAILURES
        case DescriptorBind() | SystemdBind():
            known = _DESCRIPTOR_FAILURES
    if error.errno is None:  # Python itself checks the length of sockaddr_un
        return f"{error}; choose a shorter path (Linux takes 107 bytes, macOS 103)"
    return known.get(error.errno, f"{error.strerror}; choose another address")


# --- What people and applications see


def describe(sock: socket.socket, secure: bool) -> str:
    """Return the URL of a listening socket, such as `https://[::1]:8443` or `unix:/path`.

    The wildcard addresses stay as they are: which of the machine's addresses a client can reach
    is not known here.
    """
    address = address_of(sock.getsockname())
    if address is None:
        return "unix:"
    host, port = address
    if port is None:
        return f"unix:{host}"
    return f"{'https' if secure else 'http'}://{_authority(host, port)}"


def address_of(sockname: Any) -> Address | None:
    """Return an address of the socket module as ASGI shows it in `client` and `server`.

    Args:
        sockname: What `getsockname()`, `getpeername()` or a transport gives.

    Returns:
        Host and port, an IPv4 address as such even on an IPv6 socket; the path of a unix socket
        and None (an abstract name begins with "@"); None for one without a name, as clients are.
    """
    if isinstance(sockname, tuple):
        host, port = sockname[:2]
        if (
            host.startswith("::ffff:") and "." in host
        ):  # IPv4-mapped (RFC 4291, 2.5.5.2), from an adopted socket
            host = host.removeprefix("::ffff:")
        return host, int(port)
    if isinstance(sockname, bytes):  # abstract, in the namespace of Linux (unix(7))
        sockname = os.fsdecode(sockname.replace(b"\0", b"@", 1))
    return (sockname, None) if sockname else None


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
