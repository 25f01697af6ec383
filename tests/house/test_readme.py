"""The examples of the README and the tutorial, in English and Chinese, run as they are written."""

from __future__ import annotations

import ast
import contextlib
import io
import re
from pathlib import Path

import pytest

from openai2.offline import OfflineServer

ROOT = Path(__file__).parents[2]
SISTERS = [
    ("README.md", "README.zh.md"),
    ("docs/tutorial.md", "docs/tutorial.zh.md"),
    ("docs/command.md", "docs/command.zh.md"),
]
#: Pages with Python examples, and how many results each promises at least.
PAGES = {"README.md": 6, "README.zh.md": 6, "docs/tutorial.md": 30, "docs/tutorial.zh.md": 30}
PROMISE = "# >>> "


def python_blocks(page: str) -> list[str]:
    """The Python examples of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def run_example(source: str, names: dict[str, object]) -> list[str]:
    """Return what the example prints, and the values of the expressions that a promise follows."""
    lines, tree = [*source.splitlines(), ""], ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and not ast.unparse(node).startswith("print("):
            last = node.end_lineno or node.lineno
            if PROMISE in lines[last - 1] or lines[last].strip().startswith(PROMISE):
                node.value = ast.Call(ast.Name("__show__", ast.Load()), [node.value], [])

    def show(value: object) -> None:
        if value is not None:
            print(value)

    names["__show__"] = show
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(ast.fix_missing_locations(tree), "example", "exec"), names)
    return [line for line in printed.getvalue().splitlines() if line]


@pytest.mark.parametrize("page", PAGES)
def test_every_example_gives_what_the_page_says(
    page: str, offline: OfflineServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_BASE_URL", offline.base_url)
    names: dict[str, object] = {}
    kept = 0
    for block in python_blocks(page):
        promises = [line.partition(PROMISE)[2].strip() for line in block.splitlines() if PROMISE in line]
        assert run_example(block, names) == promises, block
        kept += len(promises)
    assert kept >= PAGES[page]


@pytest.mark.parametrize("pages", SISTERS, ids=lambda pages: pages[0])
def test_english_and_chinese_pages_show_the_same(pages: tuple[str, str]) -> None:
    """The same number of headings and examples, and the same commands in the tables."""
    english, chinese = ((ROOT / page).read_text(encoding="utf-8") for page in pages)
    assert english.count("\n## ") == chinese.count("\n## ")
    assert english.count("```python") == chinese.count("```python")
    commands = [re.findall(r"^\| `openai2 (\w+)", text, re.MULTILINE) for text in (english, chinese)]
    assert commands[0] == commands[1]


@pytest.mark.parametrize(
    "page", sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")}), ids=lambda page: page.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.skipif(not (ROOT / "store").is_dir(), reason="needs the source tree")
@pytest.mark.parametrize("page", ["docs/design.md", "docs/where-things-are.md"])
def test_files_and_functions_named_in_pages_exist(page: str) -> None:
    """`folder/file.py` is a file, and a `name` right behind it is defined there."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:openai2|store|cli|tests)/[\w/.]+?)/?`(?:\s`(\w+)`)?", text)
    assert named
    for path, name in named:
        assert (ROOT / path).exists(), f"{page} names {path}"
        if name:
            source = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^\s*(?:async )?(?:def|class) {name}\b", source, re.MULTILINE), (
                f"{name} in {path}"
            )
