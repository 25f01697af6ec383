"""The command in other languages: catalogues are complete, and pages are translated and fit the screen."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from openai2 import Engine
from openai2.cli.terminal.help_pages import wrapped
from openai2.cli.terminal.text import width
from openai2.offline import OfflineServer
from tests.support import catalogues
from tests.support.cli import FOUND_IN, Terminal, environment, run
from tests.support.stores import long, plain

SOURCE = pytest.mark.skipif(not catalogues.TEMPLATE.is_file(), reason="needs the source tree")
LANGUAGES = ("zh_CN",)
HINT = "run `make words`, and see docs/languages.md"
KEY = "sk-T92mZYXHLWKt1234gtPKT3BlbkFJ"

# Three English words in a row that are neither names nor code.
_ENGLISH = re.compile(r"\b(?!(?:SQLite|FTS5|Markdown|Ctrl)\b)[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}\b")
_CODE = re.compile(r"`[^`]*`|\"[^\"]*\"|'[^']*'|\bopenai2 .*|\bcat .*")


@cache
def pages(language: str, columns: int = 80) -> dict[str, str]:
    """Return the help of the command and of each subcommand in that language, printed by one process."""
    code = """
import io, json, os, sys
from contextlib import redirect_stdout
from openai2.cli import MODULES, cli

def page(*args):
    with redirect_stdout(io.StringIO()) as printed:
        try:
            cli([*args, "--help"])
        except SystemExit as end:
            assert not end.code, args
    return printed.getvalue()

json.dump({"": page(), **{name: page(name) for name in MODULES}}, sys.stdout)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(OPENAI2_LANG=language, COLUMNS=str(columns)),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


# -- the catalogues


@SOURCE
def test_translated_texts_are_literals() -> None:
    """A text that is built at run time cannot be translated."""
    known = {
        "cli/terminal/i18n.py",
        "cli/views/event_text.py",
    }  # they translate templates of errors, and texts marked before
    assert not [line for line in catalogues.unknown() if line.partition(":")[0] not in known]


@SOURCE
def test_template_is_up_to_date() -> None:
    """It has the same texts; their files may differ."""
    _head, entries = catalogues.read(catalogues.TEMPLATE)
    assert {(e.one, e.many) for e in entries} == {(t.one, t.many) for t in catalogues.collected()}, HINT


@SOURCE
def test_every_language_has_a_catalogue() -> None:
    assert tuple(catalogues.languages()) == LANGUAGES


@SOURCE
@pytest.mark.parametrize("language", LANGUAGES)
def test_catalogue_has_exactly_the_texts_of_the_source(language: str) -> None:
    path, texts = catalogues.po(language), catalogues.collected()
    _head, entries = catalogues.read(path)
    translated, expected = {(e.one, e.many) for e in entries}, {(t.one, t.many) for t in texts}
    assert not expected - translated, f"not in {path.name}: {HINT}"
    assert not translated - expected, f"no longer in the source: {HINT}"
    assert len(entries) == len(texts), f"duplicates: {HINT}"
    missing = catalogues.missing(path)
    assert not missing, f"{path.name} lacks {len(missing)} translations, the first one of {missing[0]!r}"


@SOURCE
@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_have_the_places_of_their_text(language: str) -> None:
    """A missing place loses a fact; an additional one, or a stray brace, raises."""
    head, entries = catalogues.read(catalogues.po(language))
    for entry in entries:
        assert len(entry.translations) == (1 if entry.many is None else catalogues.forms(head)), entry.one
        for text in filter(None, entry.translations):
            allowed = [catalogues.places(one) for one in (entry.one, entry.many) if one is not None]
            assert catalogues.places(text) in allowed, (entry.one, text)
            assert text.count("{") == len(catalogues.places(text)) == text.count("}"), text
            assert len(entry.one) - len(entry.one.lstrip("\n")) == len(text) - len(text.lstrip("\n")), text


@SOURCE
@pytest.mark.parametrize("language", LANGUAGES)
def test_mo_file_is_compiled_from_the_po_file(language: str) -> None:
    assert catalogues.mo(language).read_bytes() == catalogues.compiled(catalogues.po(language)), HINT


@SOURCE
def test_update_keeps_translations_and_adds_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogues, "LOCALE", tmp_path)
    path = catalogues.po("xx")
    path.parent.mkdir(parents=True)
    head = 'msgid ""\nmsgstr "Plural-Forms: nplurals=3; plural=n%3;\\n"\n'
    path.write_text(
        f'{head}\n#, fuzzy\nmsgid "a"\nmsgstr "A"\n\nmsgid "gone"\nmsgstr "G"\n'
        '\n# kept by hand\nmsgid "b"\nmsgstr ""\n"B \\"1\\"\\n"\n"B2"\n',
        "utf-8",
    )
    texts = [
        catalogues.Text("a", None, ("cli/x.py",)),
        catalogues.Text("b", "bs", ("cli/x.py",)),
        catalogues.Text("new", None, ("click",)),
    ]
    path.write_text(catalogues.updated("xx", texts), "utf-8")
    entries = catalogues.read(path)[1]
    assert entries == [
        catalogues.Entry("a", None, ("A",), ("fuzzy",)),
        catalogues.Entry("b", "bs", ('B "1"\nB2', "", "")),
        catalogues.Entry("new", None, ("",)),
    ]
    assert catalogues.missing(path) == ["a", "b", "new"]
    assert b"new" not in catalogues.compiled(path)
    assert path.read_text("utf-8") == catalogues.updated("xx", texts)


# -- the choice of the language


@pytest.mark.parametrize(
    ("asked", "title"),
    [
        ({"OPENAI2_LANG": "zh"}, "用法"),
        ({"OPENAI2_LANG": "zh-cn"}, "用法"),
        ({"OPENAI2_LANG": "zh_Hans_CN"}, "用法"),
        ({"OPENAI2_LANG": "zh_CN", "LC_ALL": "C", "LANGUAGE": "en"}, "用法"),
        ({"LANG": "zh_CN.UTF-8"}, "用法"),
        ({"LC_ALL": "zh_CN.GB18030", "LANG": "en_US.UTF-8"}, "用法"),
        ({"LC_MESSAGES": "zh_SG.UTF-8", "LANG": "en_US.UTF-8"}, "用法"),
        ({"LANG": "", "LANGUAGE": "fr:zh_CN:en"}, "用法"),
        ({}, "Usage"),
        ({"OPENAI2_LANG": "en", "LANG": "zh_CN.UTF-8"}, "Usage"),
        ({"OPENAI2_LANG": "C", "LANG": "zh_CN.UTF-8"}, "Usage"),
        ({"OPENAI2_LANG": "xx", "LANG": "zh_CN.UTF-8"}, "Usage"),
        ({"OPENAI2_LANG": "../zh_CN"}, "Usage"),
        ({"LC_ALL": "C.UTF-8", "LANG": "zh_CN.UTF-8"}, "Usage"),
        ({"LANG": "zh_TW.UTF-8"}, "Usage"),
        ({"LANG": "de_DE.UTF-8"}, "Usage"),
        ({"LANG": "", "LANGUAGE": "en:zh_CN"}, "Usage"),
    ],
    ids=str,
)
def test_language_is_chosen_by_the_environment(asked: dict[str, str], title: str) -> None:
    done = run("path", "--help", **asked)
    assert done.returncode == 0 and done.stdout.startswith(title), done
    assert ("显示本说明并退出" in done.stdout) == (title == "用法"), "the texts of click are translated, too"


def test_english_help_does_not_import_the_chinese_layout() -> None:
    code = "import sys; from openai2.cli import cli; cli(['--help'], standalone_mode=False)"
    for language, there in (("en", False), ("zh", True)):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", code],
            env=environment(OPENAI2_LANG=language),
            cwd=FOUND_IN,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
        loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
        assert ("openai2.cli.terminal.help_pages" in loaded) == there
        assert not loaded & {"openai", "rich", "prompt_toolkit", "babel"}


# -- what people see


def test_chinese_help_contains_no_english() -> None:
    for name, page in pages("zh_CN").items():
        for line in page.splitlines():
            assert not _ENGLISH.search(_CODE.sub("", line)), f"{name}: {line}"


@pytest.mark.parametrize("columns", [80, 60])
def test_chinese_help_fits(columns: int) -> None:
    for name, page in pages("zh_CN", columns).items():
        for line in page.splitlines():
            assert width(line) <= columns or "  " in line.strip(), f"{name}: {line}"
            assert line.strip()[:1] not in tuple("，。、；：？！）》」"), f"{name}: {line}"


def test_both_languages_list_the_same_options() -> None:
    english, chinese = pages("en"), pages("zh_CN")
    options = re.compile(r"^  (-[\w-]+(?:, --[\w-]+)?)(?= )", re.MULTILINE)
    for name, page in english.items():
        listed = options.findall(page.partition("\nOptions:\n")[2])
        assert listed and listed == options.findall(chinese[name].partition("\n选项：\n")[2]), name


def test_chinese_lines_break_by_the_rules_of_chinese() -> None:
    text = "日志（只追加）：用 `openai2 log` 查看，还可以导出。"
    for columns in range(12, 60):
        lines = list(wrapped(text, columns))
        assert all(width(line) <= columns for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert not any(line[0] in "，。：）" or line[-1] == "（" for line in lines)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["chat", "--nosuch"], "没有选项"),
        (["nosuch"], "没有命令"),
        (["rename"], "缺少参数"),
        (["rollback", "x"], "无效"),
        (["list", "-n", "0"], "不在范围"),
        (["list", "--limit"], "需要 1 个参数"),
        (["list", "more"], "多余的参数"),
        (["export", "--format", "nosuch"], "可选"),
        (["--offline", "list"], "没有 --offline 选项"),
    ],
    ids=str,
)
def test_usage_errors_in_chinese(args: list[str], expected: str) -> None:
    done = run(*args, OPENAI2_LANG="zh")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done
    assert expected in done.stderr and done.stderr.endswith(" --help）\n"), done.stderr


def test_errors_of_the_engine_in_chinese(tmp_path: Path) -> None:
    db = str(tmp_path / "store.db")
    assert "还没有对话" in run("show", "--db", db, OPENAI2_LANG="zh").stderr
    assert run("newchat", "--offline", "--db", db, "-c", "数", "自然数1的后面是几?").returncode == 0
    for args, expected in (
        (["show", "@99"], "没有版本 99：版本从 1 到 "),
        (["pin", "7"], "位置 7 没有消息：位置从 "),
        (["show", "nosuch"], "没有对话 nosuch"),
        (["redo"], "没有可重做的操作"),
    ):
        done = run(*args, "--db", db, OPENAI2_LANG="zh")
        assert done.returncode == 1 and expected in done.stderr, done
    assert "已撤销 1 次操作" in run("undo", "--db", db, OPENAI2_LANG="zh").stderr


def test_reasons_inside_errors_in_chinese(tmp_path: Path) -> None:
    db, file = str(tmp_path / "store.db"), tmp_path / "list.json"
    file.write_text('[{"content": "hi"}]', "utf-8")
    for args, expected in (
        (["import", str(file)], "文件不是消息列表：消息 0 没有 role"),
        (["import", str(tmp_path / "none")], "没有这个文件或目录"),
        (["newchat", "--key", "a b", "hi"], "API 密钥的第 2 个字符（共 3 个）是空格"),
    ):
        done = run(*args, "--db", db, OPENAI2_LANG="zh")
        assert done.returncode == 1 and expected in done.stderr, done


def test_verify_in_chinese(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with Engine(path) as engine:
        conversation = long(engine)
        engine.search("question")
        engine.create("other")
        engine.conversations()
    with plain(path, unguarded=True) as sql:
        sql.execute("DROP VIEW answers")
        sql.execute("CREATE TRIGGER mine AFTER UPDATE ON drafts BEGIN SELECT 1; END")
        sql.execute("INSERT INTO drafts VALUES ('nobody', 7, 'me', 0.0, NULL)")
        sql.execute("UPDATE conversations SET messages = 7 WHERE name = 'other'")
        sql.execute("DELETE FROM search_docsize WHERE id = 9")
        sql.execute("UPDATE events SET data = replace(data, 'question 7', 'question 8') WHERE version = 16")
        sql.execute("INSERT INTO cursors VALUES ('one more', 999999)")
    done = run("verify", "--db", str(path), OPENAI2_LANG="zh")
    assert done.returncode == 1
    for expected in (
        f"{conversation.id}@16 它被改动过：哈希与内容不符\n",
        "\n缺少守护日志的触发器 events_are_not_changed\n",
        "缺少视图 answers：`openai2 rebuild` 会重新建立",
        "触发器 mine 不是 openai2 的",
        "nobody 有一份草稿，而它的对话不存在",
        "全文索引缺少消息（1 处）",
        "对话列表与事件不符：messages: 7 ≠ 0",
        "表 one more 称已读到 999999，而日志止于 1202",
    ):
        assert expected in done.stdout, done.stdout
    assert not _ENGLISH.search(_CODE.sub("", done.stdout)), done.stdout
    english = run("verify", "--db", str(path))
    assert f"{conversation.id}@16 it was changed: its hash does not match its content\n" in english.stdout
    problems = json.loads(run("verify", "--json", "--db", str(path), OPENAI2_LANG="zh").stdout)["problems"]
    assert [set(problem) for problem in problems] == [{"conversation", "version", "position", "what"}] * len(
        problems
    )
    assert problems[0]["what"] == "it was changed: its hash does not match its content"


def test_errors_of_the_api_in_chinese(tmp_path: Path) -> None:
    with OfflineServer() as server:
        server.close()
        done = run("newchat", "hi", OPENAI2_LANG="zh", OPENAI_API_KEY=KEY, OPENAI_BASE_URL=server.base_url)
    assert done.returncode == 1 and "服务器" in done.stderr, done


def test_demo_in_chinese(tmp_path: Path) -> None:
    done = run("demo", "--db", str(tmp_path / "demo.db"), OPENAI2_LANG="zh_CN")
    assert done.returncode == 0, done.stderr
    for part in ("没有任何改动", "回滚了 2 轮", "分叉自 Anna@", "0 个问题", "你   自然数1的后面是几?"):
        assert part in done.stdout, part
    assert not _ENGLISH.search(_CODE.sub("", done.stdout))


def test_session_in_chinese() -> None:
    with Terminal("newchat", "--offline", OPENAI2_LANG="zh_CN") as terminal:
        terminal.enters("自然数1的后面是几?").shows("2")
        terminal.enters("/help").shows("撤销最后 n 次操作").shows("Alt-Enter")
        terminal.enters("/nosuch").shows("没有 /nosuch")
        terminal.enters("/undo").shows("已撤销 1 次操作")
        terminal.enters("/exit")
        assert terminal.ends() == 0
        assert not any(_ENGLISH.search(_CODE.sub("", line)) for line in terminal.lines), terminal.lines
