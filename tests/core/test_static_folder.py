"""Opening files below a folder: what is reached, and that nothing outside ever is."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphorn.core.static_folder import IsFolder, NotThere, open_file

HOUR_AGO = 1_700_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`public`, with a secret beside it."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("secret")
    (tmp_path / "publicity").write_text("secret")
    public = tmp_path / "public"
    (public / "inner").mkdir(parents=True)
    (public / "file").write_text("top")
    (public / "inner" / "file").write_text("inner")
    return public


def read(folder: Path, *names: str | bytes, accepted: bytes | None = None) -> str:
    found = open_file(str(folder), [os.fsencode(name) for name in names], accepted)
    with os.fdopen(found.descriptor) as file:
        return file.read()


def link(folder: Path, name: str, target: str | Path) -> None:
    (folder / name).symlink_to(target)


def test_files_are_found_at_any_depth(folder: Path) -> None:
    assert read(folder, "file") == "top"
    assert read(folder, "inner", "file") == "inner"


def test_names_need_not_be_utf8(folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff")).write_text("odd")
    assert read(folder, b"\xff") == "odd"


@pytest.mark.parametrize(
    "names", [["missing"], ["missing", "file"], ["file", "below"], ["x" * 5000], ["x" * 200] * 200]
)
def test_what_is_not_there_is_not_there(folder: Path, names: list[str]) -> None:
    with pytest.raises(NotThere):
        read(folder, *names)


@pytest.mark.parametrize("names", [[], ["inner"]])
def test_a_folder_is_no_file(folder: Path, names: list[str]) -> None:
    with pytest.raises(IsFolder):
        read(folder, *names)


@pytest.mark.parametrize(
    ("name", "target"),
    [("link", "file"), ("link", "inner/file"), ("link", "./inner/../file"), ("link", "../public/file")],
)
def test_links_that_stay_inside_are_followed(folder: Path, name: str, target: str) -> None:
    link(folder, name, target)
    assert read(folder, name) == (folder / target).read_text()


def test_links_to_folders_and_by_absolute_paths_are_followed(folder: Path) -> None:
    link(folder, "current", "inner")
    link(folder, "absolute", folder / "inner" / "file")
    assert read(folder, "current", "file") == "inner"
    assert read(folder, "absolute") == "inner"
    link(folder, "self", folder)
    with pytest.raises(IsFolder):
        read(folder, "self")


def test_a_kubernetes_volume_is_served(folder: Path) -> None:
    (folder / "..2026_11_22").mkdir()
    (folder / "..2026_11_22" / "settings.json").write_text("{}")
    link(folder, "..data", "..2026_11_22")
    link(folder, "settings.json", "..data/settings.json")
    assert read(folder, "settings.json") == "{}"


def test_the_folder_itself_may_be_a_link_that_is_switched(folder: Path, tmp_path: Path) -> None:
    link(tmp_path, "current", folder)
    assert read(tmp_path / "current", "file") == "top"
    link(folder, "inside", "file")
    assert read(tmp_path / "current", "inside") == "top"
    (tmp_path / "current").unlink()
    link(tmp_path, "current", "outside")
    assert read(tmp_path / "current", "file") == "secret"


@pytest.mark.parametrize(
    "target",
    [
        "../secret",
        "/etc/passwd",
        "../publicity",
        "inner/../../secret",
        "..",
        "/",
        "loop",
        "/proc/self/environ",
    ],
)
def test_links_that_leave_or_lead_nowhere_are_not_followed(folder: Path, target: str) -> None:
    link(folder, "loop", target)
    with pytest.raises((NotThere, IsFolder)):
        read(folder, "loop")
    with pytest.raises((NotThere, IsFolder)):
        read(folder, "loop", "secret")


def test_a_link_on_the_way_that_leaves_is_not_followed(folder: Path) -> None:
    link(folder, "out", "../outside")
    link(folder, "chain", "out")
    for name in ("out", "chain"):
        with pytest.raises(NotThere):
            read(folder, name, "file")


def test_special_files_are_not_opened_and_nobody_waits(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    os.mkfifo(folder / "file.br")
    link(folder, "null", "/dev/null")
    for name in ("fifo", "null"):
        with pytest.raises(NotThere):
            read(folder, name)
    assert read(folder, "file", accepted=b"br") == "top"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_says_so(folder: Path) -> None:
    (folder / "file").chmod(0)
    with pytest.raises(PermissionError):
        read(folder, "file")


def test_a_precompressed_sibling_is_chosen_if_it_is_up_to_date(folder: Path) -> None:
    (folder / "file.br").write_text("br")
    (folder / "file.gz").write_text("gz")
    for name, seconds in (("file", HOUR_AGO), ("file.br", HOUR_AGO - 1), ("file.gz", HOUR_AGO)):
        os.utime(folder / name, (seconds, seconds))
    assert read(folder, "file", accepted=b"br, gzip") == "gz"
    assert read(folder, "file", accepted=b"br") == "top"
    assert read(folder, "file") == "top"
    assert read(folder, "file.br", accepted=b"br") == "br"


def test_a_sibling_that_is_a_link_or_a_folder_is_none(folder: Path) -> None:
    link(folder, "file.gz", "../secret")
    (folder / "file.br").mkdir()
    assert read(folder, "file", accepted=b"br, gzip") == "top"


def test_no_descriptor_is_left_open(folder: Path) -> None:
    link(folder, "out", "../outside")
    os.mkfifo(folder / "fifo")
    before = len(list(Path("/dev/fd").iterdir()))
    for names in (["file"], ["inner"], ["inner", "file"], ["inner", "x"], ["out", "file"], ["fifo"], []):
        with suppress(NotThere, IsFolder):
            read(folder, *names)
    assert len(list(Path("/dev/fd").iterdir())) == before


NAMES = st.sampled_from(
    ["file", "inner", "a", "b", "c", "public", "outside", "secret", "x" * 300, "~", "$HOME", "C:", "*"]
)
TARGETS = st.one_of(
    st.lists(st.one_of(NAMES, st.just(".."), st.just(".")), min_size=1, max_size=4).map("/".join),
    st.sampled_from(["/", "/etc", "/etc/passwd", "/proc/self/root"]),
)


@given(
    links=st.dictionaries(st.sampled_from(["a", "b", "c", "inner/a", "inner/b"]), TARGETS, max_size=5),
    paths=st.lists(st.lists(NAMES, max_size=5), min_size=1, max_size=5),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_names_and_no_links_lead_outside(
    folder: Path, links: dict[str, str], paths: list[list[str]]
) -> None:
    try:
        for name, target in links.items():
            link(folder, name, target)
        for names in paths:
            try:
                content = read(folder, *names)
            except (NotThere, IsFolder):
                continue
            assert content in {"top", "inner"}
    finally:
        for name in links:
            (folder / name).unlink(missing_ok=True)


@contextmanager
def switching(folder: Path, one: str, other: str) -> Iterator[None]:
    """Exchange two names all the time."""
    over = threading.Event()

    def switch() -> None:
        while not over.is_set():
            for source, target in ((one, "spare"), (other, one), ("spare", other)):
                (folder / source).rename(folder / target)

    thread = threading.Thread(target=switch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_nothing_outside_is_reached_while_names_are_exchanged(folder: Path) -> None:
    link(folder, "out", "../outside")
    link(folder, "leak", "../secret")
    with switching(folder, "inner", "out"):
        contents = {attempt(folder, "inner", "file") for _ in range(2000)}
    with switching(folder, "file", "leak"):
        contents |= {attempt(folder, "file") for _ in range(2000)}
    assert {"inner", "top"} <= contents <= {"inner", "top", None}


def attempt(folder: Path, *names: str) -> str | None:
    try:
        return read(folder, *names)
    except (NotThere, IsFolder):
        return None
