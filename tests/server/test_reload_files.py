"""Which changes make `--reload` restart, and what is said when it cannot watch."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from alphorn import Config
from alphorn.core.errors import ConfigError
from alphorn.reload import Files

pytest.importorskip("watchfiles")


@pytest.mark.parametrize(
    ("path", "settings", "concerns"),
    [
        ("app.py", {}, True),
        ("shop/basket/views.py", {}, True),
        ("app.html", {}, False),
        ("app.html", {"reload_include": ("*.html",)}, True),
        ("shop/templates/a.txt", {"reload_include": ("templates/*",)}, True),
        ("shop/texts/a.txt", {"reload_include": ("templates/*",)}, False),
        ("shop/app_test.py", {"reload_exclude": ("*_test.py",)}, False),
        ("shop/migrations/0001.py", {"reload_exclude": ("migrations",)}, False),
        ("shop/migrations.py", {"reload_exclude": ("migrations",)}, True),
        (".venv/lib/app.py", {}, False),
        ("shop/__pycache__/app.cpython-313.py", {}, False),
        (".git/hooks/a.py", {}, False),
        (".#app.py", {}, False),
        ("app.py~", {"reload_include": ("*",)}, False),
        ("app.pyc", {"reload_include": ("*",)}, False),
    ],
)
def test_what_is_of_the_application_concerns_it(
    path: str, settings: dict[str, tuple[str, ...]], concerns: bool, tmp_path: Path
) -> None:
    # A folder above the application may have any name.
    folder = tmp_path / "node_modules"
    folder.mkdir()
    files = Files(Config(reload=True, app_dir=str(folder), **settings))  # type: ignore[arg-type]
    assert files._concerns(None, str(folder / path)) is concerns


async def test_changes_are_reported_once_they_have_come_to_rest(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    files = Files(Config(reload=True, reload_dir=(str(tmp_path), str(other))))
    changes = files.changes()
    task = asyncio.ensure_future(anext(changes))
    while not task.done():  # until the system has begun to watch
        (other / "new.py").write_text("")
        (tmp_path / "notes.txt").write_text("")
        await asyncio.wait({task}, timeout=0.1)
    assert [Path(name).name for name in await task] == ["new.py"]
    await changes.aclose()


def test_a_folder_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="--reload-dir nowhere: there is no folder"):
        Files(Config(reload=True, reload_dir=("nowhere",)))


async def test_what_the_system_cannot_watch_is_said_with_the_mend(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    files = Files(Config(reload=True, reload_dir=(str(gone),)))
    gone.rmdir()
    with pytest.raises(ConfigError, match=r"cannot be watched: .*WATCHFILES_FORCE_POLLING=1"):
        await anext(files.changes())


@pytest.mark.parametrize("setting", ["reload_dir", "reload_include", "reload_exclude"])
def test_choosing_files_is_of_no_use_without_reload(setting: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} is of no use without reload"):
        Config(**{setting: ("a",)})  # type: ignore[arg-type]


def test_what_is_missing_is_said_with_the_mend() -> None:
    script = (
        "import sys; sys.modules['watchfiles'] = None\n"
        "from alphorn import Config; from alphorn.reload import Files\n"
        "Files(Config(reload=True))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "--reload needs the package watchfiles" in done.stderr
    assert "pip install watchfiles" in done.stderr
