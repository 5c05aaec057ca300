"""`--dev-tls`: a certificate for this machine, signed by an authority of its own.

Made once and kept, so that whoever trusts the authority once is done. certs/README.md says where
the files are and how to trust them; `authority` makes what is in them.

Invariants:
- Keys are readable by their owner only, from their first byte on.
- Every file is replaced as a whole, and a key outlives the certificates made with it: a server
  that starts while another renews never sees half a file, nor a key beside a foreign certificate.
"""

import contextlib
import dataclasses
import datetime as dt
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from ..core.config import Config
from ..core.errors import ConfigError
from ..core.log import error_log
from ..core.sockets import TcpBind, parse_bind
from .authority import LEAF_LIFE, Key, can_sign, is_signed_by, new_authority, new_key, new_leaf, spell_out
from .certificates import certificate_names

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class DevelopmentCertificate(NamedTuple):
    """The files of a development certificate, PEM.

    Attributes:
        certfile: The certificate of this machine.
        keyfile: Its key.
        cafile: The authority, for clients to trust.
    """

    certfile: str
    keyfile: str
    cafile: str


def with_development_certificate(config: Config) -> Config:
    """Return the settings with a development certificate in place of `--dev-tls`; the log says where it is.

    Raises:
        ConfigError: The files cannot be read or written.
    """
    binds = [bind for bind in map(parse_bind, config.bind) if isinstance(bind, TcpBind)]
    names = [bind.host or "0.0.0.0" for bind in binds] if config.bind else [config.host]  # noqa: S104 - a name here
    made = development_certificate(names)
    error_log.info(
        "development certificate; trust its CA to be rid of warnings: %s (try `curl --cacert %s ...`)",
        made.cafile,
        made.cafile,
    )
    return dataclasses.replace(config, dev_tls=False, certfile=(made.certfile,), keyfile=(made.keyfile,))


def development_certificate(
    names: Iterable[str], folder: Path | None = None, *, now: dt.datetime | None = None
) -> DevelopmentCertificate:
    """Return a certificate for this machine; make or renew it where that is needed.

    What is there is used while it covers `names` and more than a third of its life is left.
    The authority is kept as long as it can sign what is asked for.

    Args:
        names: Hosts and addresses that the server is bound to. A wildcard address stands for
            the name of this machine. The local names are always covered.
        folder: Where the files are; by default `development_folder()`.
        now: The time (UTC).

    Raises:
        ConfigError: The files cannot be read or written.
    """
    folder = folder or development_folder()
    now = now or dt.datetime.now(dt.UTC)
    wanted = spell_out(names)
    files = _Files(folder)
    try:
        # Without the lock first: a folder that cannot be written to may hold all that is needed.
        if not files.are_fit(wanted, now):
            _make_folder(folder)
            with _lock(folder):
                if not files.are_fit(wanted, now):
                    files.renew(wanted, now)
    except OSError as error:
        raise ConfigError(
            f"--dev-tls: {error.filename or folder}: {error.strerror}; let this user read and write there"
        ) from None
    return DevelopmentCertificate(str(files.leaf), str(files.leaf_key), str(files.authority))


def development_folder() -> Path:
    """Return `certs` in the working directory if there is such a folder, else one in the user's data."""
    here = Path("certs")
    if here.is_dir():
        return here.absolute()
    try:
        return _data_folder() / "alphorn"
    except RuntimeError:
        raise ConfigError("--dev-tls: this user has no home folder; make a folder certs here") from None


def _data_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    chosen = Path(os.environ.get("XDG_DATA_HOME", ""))
    return chosen if chosen.is_absolute() else Path.home() / ".local" / "share"


# --- The files


class _Files:
    """The files in a folder, as far as they are there; their names cannot be taken for somebody else's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = folder / "alphorn-ca.pem"
        self.authority_key = folder / "alphorn-ca.key.pem"
        self.leaf = folder / "alphorn-localhost.pem"
        self.leaf_key = folder / "alphorn-localhost.key.pem"

    def are_fit(self, wanted: frozenset[str], now: dt.datetime) -> bool:
        """Tell whether a server can be started with them as they are."""
        authority, leaf, key = _certificate(self.authority), _certificate(self.leaf), _key(self.leaf_key)
        return (
            authority is not None
            and leaf is not None
            and key is not None
            and leaf.public_key() == key.public_key()
            and is_signed_by(leaf, authority)
            and wanted.issubset(certificate_names(leaf))
            and _is_fresh(leaf, now)
        )

    def renew(self, wanted: frozenset[str], now: dt.datetime) -> None:
        """Make what is missing, has too little time left, or does not cover `wanted`."""
        leaf, leaf_key = _certificate(self.leaf), _key(self.leaf_key)
        if leaf is not None and _is_fresh(leaf, now):
            # Two servers with different names would otherwise replace each other's for ever.
            wanted |= frozenset(certificate_names(leaf))
        authority, authority_key = _certificate(self.authority), _key(self.authority_key)
        if authority is None or authority_key is None or not can_sign(authority, authority_key, wanted, now):
            if authority is not None:
                error_log.warning("--dev-tls: made a new CA, to be trusted again: %s", self.authority)
            authority_key = new_key()
            authority = new_authority(authority_key, wanted, now)
            self._keep_out_of_git()
            _write(self.authority_key, _key_pem(authority_key), 0o600)
            _write(self.authority, authority.public_bytes(Encoding.PEM), 0o644)
        if leaf_key is None:
            leaf_key = new_key()
            _write(self.leaf_key, _key_pem(leaf_key), 0o600)
        leaf = new_leaf(leaf_key, authority, authority_key, wanted, now)
        _write(self.leaf, leaf.public_bytes(Encoding.PEM), 0o644)

    def _keep_out_of_git(self) -> None:
        """Have git ignore our files; `certs` may well be in somebody's repository."""
        with contextlib.suppress(FileExistsError), (self.folder / ".gitignore").open("x") as ignore:
            ignore.write("alphorn-*\n.gitignore\n")


def _is_fresh(leaf: x509.Certificate, now: dt.datetime) -> bool:
    return leaf.not_valid_before_utc <= now < leaf.not_valid_after_utc - LEAF_LIFE / 3


def _certificate(path: Path) -> x509.Certificate | None:
    """Read a certificate; None where there is none, or a damaged one, which is then replaced."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _key(path: Path) -> Key | None:
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError):  # TypeError: somebody has encrypted it
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix="alphorn-")  # with mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Let one process at a time renew; the system releases the lock of a process that dies."""
    with (folder / "alphorn-lock").open("wb") as file:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
