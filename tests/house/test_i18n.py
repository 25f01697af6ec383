"""The command in other languages: no text is missing, none is left over, and pages fit on the screen."""

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
from tests.support import catalogues as words
from tests.support.cli import FOUND_IN, Terminal, environment, run
from tests.support.stores import long, plain

SOURCE = pytest.mark.skipif(not words.TEMPLATE.is_file(), reason="this reads the source, which is not here")
LANGUAGES = ("zh_CN",)
HINT = "run `make words`, and see docs/languages.md"
KEY = "sk-T92mZYXHLWKt1234gtPKT3BlbkFJ"

# What an English sentence is told by: words in a row that are neither names, places nor code.
_ENGLISH = re.compile(r"\b(?!(?:SQLite|FTS5|Markdown|Ctrl)\b)[A-Za-z]{2,} [a-z]{2,} [a-z]{2,}\b")
_CODE = re.compile(r"`[^`]*`|\"[^\"]*\"|'[^']*'|\bopenai2 .*|\bcat .*")


@cache
def pages(language: str, columns: int = 80) -> dict[str, str]:
    """The help of the command and of every command in it, as one process of that language prints it."""
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
def test_every_text_can_be_found_in_the_source() -> None:
    """`_` and `counted` are given literals, for what is put together at run time nobody can translate."""
    known = {
        "cli/terminal/i18n.py",
        "cli/views/event_text.py",
    }  # templates of errors, and a text that was said to be one before
    assert not [line for line in words.unknown() if line.partition(":")[0] not in known]


@SOURCE
def test_the_template_is_up_to_date() -> None:
    """It names the texts; that one has moved to another file is no reason to fail."""
    _head, entries = words.read(words.TEMPLATE)
    assert {(e.one, e.many) for e in entries} == {(t.one, t.many) for t in words.collected()}, HINT


@SOURCE
def test_every_language_has_its_catalogue() -> None:
    assert tuple(words.languages()) == LANGUAGES


@SOURCE
@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_missing_or_left_over(language: str) -> None:
    path, texts = words.po(language), words.collected()
    _head, entries = words.read(path)
    said, meant = {(e.one, e.many) for e in entries}, {(t.one, t.many) for t in texts}
    assert not meant - said, f"not in {path.name}: {HINT}"
    assert not said - meant, f"in no source any more: {HINT}"
    assert len(entries) == len(texts), f"said twice: {HINT}"
    missing = words.missing(path)
    assert not missing, f"{path.name} lacks {len(missing)} translations, the first one of {missing[0]!r}"


@SOURCE
@pytest.mark.parametrize("language", LANGUAGES)
def test_translations_have_the_places_of_the_text(language: str) -> None:
    """A place that is missing loses a fact, one too many ends in an error; and so do stray braces."""
    head, entries = words.read(words.po(language))
    for entry in entries:
        assert len(entry.said) == (1 if entry.many is None else words.forms(head)), entry.one
        for text in filter(None, entry.said):
            allowed = [words.places(one) for one in (entry.one, entry.many) if one is not None]
            assert words.places(text) in allowed, (entry.one, text)
            assert text.count("{") == len(words.places(text)) == text.count("}"), text
            assert len(entry.one) - len(entry.one.lstrip("\n")) == len(text) - len(text.lstrip("\n")), text


@SOURCE
@pytest.mark.parametrize("language", LANGUAGES)
def test_what_is_installed_is_what_was_translated(language: str) -> None:
    assert words.mo(language).read_bytes() == words.compiled(words.po(language)), HINT


@SOURCE
def test_a_catalogue_that_is_behind_is_brought_up_to_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(words, "LOCALE", tmp_path)
    path = words.po("xx")
    path.parent.mkdir(parents=True)
    head = 'msgid ""\nmsgstr "Plural-Forms: nplurals=3; plural=n%3;\\n"\n'
    path.write_text(
        f'{head}\n#, fuzzy\nmsgid "a"\nmsgstr "A"\n\nmsgid "gone"\nmsgstr "G"\n'
        '\n# kept by hand\nmsgid "b"\nmsgstr ""\n"B \\"1\\"\\n"\n"B2"\n',
        "utf-8",
    )
    texts = [
        words.Text("a", None, ("cli/x.py",)),
        words.Text("b", "bs", ("cli/x.py",)),
        words.Text("new", None, ("click",)),
    ]
    path.write_text(words.updated("xx", texts), "utf-8")
    entries = words.read(path)[1]
    assert entries == [
        words.Entry("a", None, ("A",), ("fuzzy",)),
        words.Entry("b", "bs", ('B "1"\nB2', "", "")),
        words.Entry("new", None, ("",)),
    ]
    assert words.missing(path) == ["a", "b", "new"]
    assert b"new" not in words.compiled(path)
    assert path.read_text("utf-8") == words.updated("xx", texts)


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
def test_the_language(asked: dict[str, str], title: str) -> None:
    done = run("path", "--help", **asked)
    assert done.returncode == 0 and done.stdout.startswith(title), done
    assert ("显示本说明并退出" in done.stdout) == (title == "用法"), "click's own words are in it, too"


def test_a_light_command_stays_light() -> None:
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


def test_no_english_is_left_in_chinese_help() -> None:
    for name, page in pages("zh_CN").items():
        for line in page.splitlines():
            assert not _ENGLISH.search(_CODE.sub("", line)), f"{name}: {line}"


@pytest.mark.parametrize("columns", [80, 60])
def test_chinese_help_fits(columns: int) -> None:
    for name, page in pages("zh_CN", columns).items():
        for line in page.splitlines():
            assert width(line) <= columns or "  " in line.strip(), f"{name}: {line}"
            assert line.strip()[:1] not in tuple("，。、；：？！）》」"), f"{name}: {line}"


def test_both_languages_tell_of_the_same_options() -> None:
    english, chinese = pages("en"), pages("zh_CN")
    options = re.compile(r"^  (-[\w-]+(?:, --[\w-]+)?)(?= )", re.MULTILINE)
    for name, page in english.items():
        told = options.findall(page.partition("\nOptions:\n")[2])
        assert told and told == options.findall(chinese[name].partition("\n选项：\n")[2]), name


def test_chinese_lines_are_broken_where_chinese_is() -> None:
    text = "日志（只追加）：用 `openai2 log` 查看，还可以导出。"
    for columns in range(12, 60):
        lines = list(wrapped(text, columns))
        assert all(width(line) <= columns for line in lines)
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
        assert not any(line[0] in "，。：）" or line[-1] == "（" for line in lines)


@pytest.mark.parametrize(
    ("args", "said"),
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
def test_wrong_usage_in_chinese(args: list[str], said: str) -> None:
    done = run(*args, OPENAI2_LANG="zh")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done
    assert said in done.stderr and done.stderr.endswith(" --help）\n"), done.stderr


def test_errors_of_the_engine_in_chinese(tmp_path: Path) -> None:
    db = str(tmp_path / "store.db")
    assert "还没有对话" in run("show", "--db", db, OPENAI2_LANG="zh").stderr
    assert run("newchat", "--offline", "--db", db, "-c", "数", "自然数1的后面是几?").returncode == 0
    for args, said in (
        (["show", "@99"], "没有版本 99：版本从 1 到 "),
        (["pin", "7"], "位置 7 没有消息：位置从 "),
        (["show", "nosuch"], "没有对话 nosuch"),
        (["redo"], "没有可重做的操作"),
    ):
        done = run(*args, "--db", db, OPENAI2_LANG="zh")
        assert done.returncode == 1 and said in done.stderr, done
    assert "已撤销 1 次操作" in run("undo", "--db", db, OPENAI2_LANG="zh").stderr


def test_reasons_inside_errors_in_chinese(tmp_path: Path) -> None:
    db, file = str(tmp_path / "store.db"), tmp_path / "list.json"
    file.write_text('[{"content": "hi"}]', "utf-8")
    for args, said in (
        (["import", str(file)], "文件不是消息列表：消息 0 没有 role"),
        (["import", str(tmp_path / "none")], "没有这个文件或目录"),
        (["newchat", "--key", "a b", "hi"], "API 密钥的第 2 个字符（共 3 个）是空格"),
    ):
        done = run(*args, "--db", db, OPENAI2_LANG="zh")
        assert done.returncode == 1 and said in done.stderr, done


def test_what_verify_finds_in_chinese(tmp_path: Path) -> None:
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
    for said in (
        f"{conversation.id}@16 它被改动过：哈希与内容不符\n",
        "\n缺少守护日志的触发器 events_are_not_changed\n",
        "缺少视图 answers：`openai2 rebuild` 会重新建立",
        "触发器 mine 不是 openai2 的",
        "nobody 有一份草稿，而它的对话不存在",
        "全文索引缺少消息（1 处）",
        "对话列表与事件不符：messages: 7 ≠ 0",
        "表 one more 称已读到 999999，而日志止于 1202",
    ):
        assert said in done.stdout, done.stdout
    assert not _ENGLISH.search(_CODE.sub("", done.stdout)), done.stdout
    english = run("verify", "--db", str(path))
    assert f"{conversation.id}@16 it was changed: its hash does not match its content\n" in english.stdout
    told = json.loads(run("verify", "--json", "--db", str(path), OPENAI2_LANG="zh").stdout)["problems"]
    assert [set(one) for one in told] == [{"conversation", "version", "position", "what"}] * len(told)
    assert told[0]["what"] == "it was changed: its hash does not match its content"


def test_errors_of_the_api_in_chinese(tmp_path: Path) -> None:
    with OfflineServer() as server:
        server.close()
        done = run("newchat", "hi", OPENAI2_LANG="zh", OPENAI_API_KEY=KEY, OPENAI_BASE_URL=server.base_url)
    assert done.returncode == 1 and "服务器" in done.stderr, done


def test_the_demo_in_chinese(tmp_path: Path) -> None:
    done = run("demo", "--db", str(tmp_path / "demo.db"), OPENAI2_LANG="zh_CN")
    assert done.returncode == 0, done.stderr
    for part in ("没有任何改动", "回滚了 2 轮", "分叉自 Anna@", "0 个问题", "你   自然数1的后面是几?"):
        assert part in done.stdout, part
    assert not _ENGLISH.search(_CODE.sub("", done.stdout))


def test_a_session_in_chinese() -> None:
    with Terminal("newchat", "--offline", OPENAI2_LANG="zh_CN") as terminal:
        terminal.enters("自然数1的后面是几?").shows("2")
        terminal.enters("/help").shows("撤销上次操作").shows("Alt-Enter")
        terminal.enters("/nosuch").shows("没有 /nosuch")
        terminal.enters("/undo").shows("已撤销 1 次操作")
        terminal.enters("/exit")
        assert terminal.ends() == 0
        assert not any(_ENGLISH.search(_CODE.sub("", line)) for line in terminal.lines), terminal.lines
