"""The documentation says nothing that is not so: links, flags, settings, snippets, commands."""

import ast
import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from alphorn.core.codec import Codec, Handshake
from alphorn.core.config import SETTINGS
from alphorn.core.exchange import Connection, Exchange, Stream
from alphorn.core.settings import APP, CONFIG_VARIABLE, gather
from alphorn.ctl import command as ctl
from support.pages import PAGES, ROOT, Block, Page

FLAGS = {
    "-b",
    *(setting.flag for setting in SETTINGS),
    *(f"--no-{setting.key}" for setting in SETTINGS if setting.kind is bool),
    *("--config", "--demo", "--help", "--print-config", "--version"),
    *(name for option in ctl.params for name in option.opts),
}
VARIABLES = {CONFIG_VARIABLE, APP.variable, *(setting.variable for setting in SETTINGS)}
FIELDS = {setting.name for setting in SETTINGS}


def blocks(*languages: str) -> list[Block]:
    return [block for file in PAGES for block in Page(file).blocks(*languages)]


@pytest.fixture(params=PAGES, ids=lambda file: str(file.relative_to(ROOT)))
def page(request: pytest.FixtureRequest) -> Page:
    return Page(request.param)


def test_every_relative_link_leads_somewhere(page: Page) -> None:
    for link in page.links:
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = page.file.parent / parts.path if parts.path else page.file
        assert target.exists(), f"{page}: {link}"
        if parts.fragment:
            assert parts.fragment in Page(target).anchors, f"{page}: {link}"


def test_every_flag_exists(page: Page) -> None:
    commands = [
        line
        for block in page.blocks("sh", "ini")
        for line in block.text.splitlines()
        if re.search(r"\bserve\b", line)
    ]
    spans = [code for code in page.code if code.startswith(("-", "serve "))]
    for text in commands + spans:
        for flag in re.findall(r"(?<![\w-])--?[a-z][\w-]*", text):
            assert flag in FLAGS, f"{page}: {flag} in {text!r}"


def test_every_command_of_ctl_exists_and_is_described(page: Page) -> None:
    texts = [*page.code, *(line for block in page.blocks() for line in block.text.splitlines())]
    used = {word for text in texts for word in re.findall(r"\balphorn ctl (?:--\S+ )*([\w-]+)", text)}
    assert used <= ctl.commands.keys()
    if page.file.name == "observability.md":
        assert used == ctl.commands.keys()


def test_every_variable_exists(page: Page) -> None:
    for variable in re.findall(r"\bSERVE_\w+", page.prose):
        assert variable in VARIABLES, f"{page}: {variable}"


def test_every_target_of_make_exists(page: Page) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for text in [*page.code, *(block.text for block in page.blocks("sh"))]:
        for target in re.findall(r"^make (\w+)", text, re.MULTILINE):
            assert target in targets, f"{page}: make {target}"


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_settings_in_toml_are_good(block: Block, tmp_path: Path) -> None:
    content = tomllib.loads(block.text)
    if "handlers" in content:  # for --log-config
        assert content.keys() <= {"formatters", "handlers", "loggers", "root"}
        return
    name = "pyproject.toml" if "tool" in content else "serve.toml"
    (tmp_path / name).write_text(block.text, "utf-8")
    assert gather({}, {}, str(tmp_path / name)).app is not None


@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_compiles_and_names_settings_that_exist(block: Block) -> None:
    # A snippet may stand for the inside of a coroutine.
    tree = compile(block.text, str(block), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and re.search(r"\b(run|Config|Server)$", ast.unparse(node.func)):
            named = {keyword.arg for keyword in node.keywords if keyword.arg is not None}
            assert named <= FIELDS, f"{block}: {named - FIELDS}"


@pytest.mark.parametrize("block", blocks(), ids=str)
def test_every_block_says_what_it_is(block: Block) -> None:
    assert block.language in {
        "",
        "dockerfile",
        "haproxy",
        "ini",
        "json",
        "nginx",
        "python",
        "sh",
        "text",
        "toml",
        "yaml",
    }, str(block)


def test_every_module_has_its_place_in_the_architecture() -> None:
    described = set(Page(ROOT / "docs" / "architecture.md").code)
    for room in ("", "core", "protocols", "tls"):
        for module in (ROOT / room).glob("*.py"):
            assert module.name in described or module.name == "__init__.py", f"{room}/{module.name}"


@pytest.mark.parametrize("seam", [Stream, Exchange, Connection, Handshake, Codec])
def test_every_verb_of_a_seam_is_in_the_architecture(seam: type) -> None:
    described = " ".join(Page(ROOT / "docs" / "architecture.md").code)
    for verb in vars(seam):
        assert verb.startswith("_") or re.search(rf"\b{verb}\b", described), f"{seam.__name__}.{verb}"


def test_each_line_of_the_comparison_is_a_test() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|", readme, re.MULTILINE)
    claims = [name for name, ours in rows if ours not in {"Alphorn", "not yet"}]
    proofs = re.findall(r"^(.+): (tests/\S+\.py)::(\w+)$", readme, re.MULTILINE)
    assert len(claims) == len(proofs) > 0
    for claim, (prefix, file, name) in zip(claims, proofs, strict=True):
        assert claim.startswith(prefix)
        assert f"def {name}(" in (ROOT / file).read_text("utf-8"), f"{file}::{name}"


def test_no_page_is_missed() -> None:
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md"} <= {file.name for file in PAGES}
    linked = {
        (page.file.parent / urlsplit(link).path).resolve() for page in map(Page, PAGES) for link in page.links
    }
    assert set(PAGES) <= linked | {ROOT / "README.md"}, "a page to which no other leads"
