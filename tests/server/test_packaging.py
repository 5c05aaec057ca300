"""What is shipped: the lists in pyproject.toml agree with the folders, and the wheel with both."""

import importlib.metadata
import tomllib
from pathlib import Path

import alphorn

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]


def test_every_package_folder_is_listed() -> None:
    folders = {
        file.parent.relative_to(ROOT)
        for file in ROOT.glob("*/**/__init__.py")
        if not file.relative_to(ROOT).parts[0].startswith((".", "build", "tests"))
    }
    assert sorted(SETUPTOOLS["packages"]) == sorted(
        ["alphorn", *(f"alphorn.{'.'.join(f.parts)}" for f in folders)]
    )


def test_every_data_file_that_is_listed_is_there() -> None:
    for name in SETUPTOOLS["package-data"]["alphorn"]:
        assert (ROOT / name).is_file(), name


def installed() -> importlib.metadata.Distribution:
    """What pip has installed; a build leaves an `egg-info` in the root, which may be on the path too."""
    (found,) = (
        distribution
        for distribution in importlib.metadata.distributions(name="alphorn")
        if any(file.parts[0].endswith(".dist-info") for file in distribution.files or ())
    )
    return found


def test_the_version_is_written_once_and_agrees() -> None:
    assert PYPROJECT["project"]["version"] == alphorn.__version__ == installed().version


def test_no_module_but_alphorn_is_installed() -> None:
    tops = {file.parts[0] for file in installed().files or () if file.parts[0] not in ("..", "__pycache__")}
    assert {top for top in tops if not top.endswith(".dist-info") and not top.startswith("__editable__")} <= {
        "alphorn"
    }


def test_what_builds_the_package_is_not_installed() -> None:
    assert not [file for file in installed().files or () if file.name == "setup.py"]


def test_no_module_of_the_root_hides_one_of_the_standard_library() -> None:
    import sys

    assert not {file.stem for file in ROOT.glob("*.py")} & set(sys.stdlib_module_names)
