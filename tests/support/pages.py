"""The pages of the documentation, taken apart: prose, fenced blocks, links, headings."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").glob("**/*.md")),
    *sorted((ROOT / "certs").glob("*.md")),
]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: Where it stands.
        line: The number of the line after its fence.
        language: What the fence says; "" if nothing.
        text: Its lines.
    """

    page: "Page"
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


class Page:
    """One page.

    Attributes:
        file: Where it is.
        text: All of it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.text = file.read_text("utf-8")

    def __str__(self) -> str:
        return str(self.file.relative_to(ROOT))

    def blocks(self, *languages: str) -> list[Block]:
        """Return the fenced blocks in these languages, or all."""
        return [
            Block(self, self.text.count("\n", 0, found.start()) + 2, found[1], found[2])
            for found in _BLOCK.finditer(self.text)
            if not languages or found[1] in languages
        ]

    @property
    def prose(self) -> str:
        """The text without blocks and comments."""
        return _COMMENT.sub("", _BLOCK.sub("", self.text))

    @property
    def code(self) -> list[str]:
        """What stands between backticks in the prose."""
        return _CODE.findall(self.prose)

    @property
    def links(self) -> list[str]:
        """The targets of the links and pictures."""
        return _LINK.findall(self.prose)

    @property
    def anchors(self) -> set[str]:
        """What links may point to: the headings, as Git hosts spell them."""
        headings = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(self.prose))
        return {heading.strip().replace(" ", "-") for heading in headings}
