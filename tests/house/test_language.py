"""Plain English: texts that people see, docstrings and comments name their subject."""

from __future__ import annotations

import io
import re
import tokenize
from collections import Counter
from pathlib import Path

import pytest

from tests.support import catalogues

ROOT = Path(__file__).resolve().parents[2]
SOURCE = pytest.mark.skipif(not catalogues.TEMPLATE.is_file(), reason="needs the source tree")

# Written so that it does not match itself.
RIDDLES = re.compile(
    r"\b(?:[wW]hoever|[sS]omebody|[nN]obody|[aA]new|[i]s told|[a]re told|[s]tands in|(?<!there )[i]s none)\b"
)

#: Pages that must not contain any.
PAGES = ("README*.md", "CHANGELOG.md", "docs/*.md")

#: Folders whose docstrings and comments must not contain any.
FOLDERS = ("openai2", "store", "cli", "tests", "benchmarks")


def _prose(path: Path) -> str:
    """Return the comments, and the strings in triple quotes, of a module."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline)
    return "\n".join(
        token.string
        for token in tokens
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and '"""' in token.string)
    )


@SOURCE
def test_translated_texts_contain_no_riddle() -> None:
    assert not [
        text.one for text in catalogues.collected() if RIDDLES.search(f"{text.one} {text.many or ''}")
    ]


@pytest.mark.parametrize("page", sorted({page for glob in PAGES for page in ROOT.glob(glob)}), ids=str)
def test_pages_contain_no_riddle(page: Path) -> None:
    assert not RIDDLES.findall(page.read_text("utf-8"))


@SOURCE
@pytest.mark.parametrize("folder", FOLDERS)
def test_docstrings_and_comments_contain_no_riddle(folder: str) -> None:
    counts = Counter(
        {
            str(path.relative_to(ROOT)): len(RIDDLES.findall(_prose(path)))
            for path in (ROOT / folder).rglob("*.py")
        }
    )
    worst = ", ".join(f"{name} {count}" for name, count in counts.most_common(5))
    assert not counts.total(), f"name the subject in: {worst}"
