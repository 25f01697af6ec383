"""`diff`: two conversations side by side."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openai2 import Engine
from tests.support.cli import QUESTIONS, ok, refused


def test_diff_aligns_rounds_by_question(db: str) -> None:
    ok("fork", "数数", "--name", "再数", "--db", db)
    with Engine(db) as engine:
        engine.open("再数").rollback(1)
    ok("chat", "--offline", "-c", "再数", "世界上最大的海洋是哪个?", "--db", db)
    compared = json.loads(ok("diff", "数数", "再数", "--json", "--db", db))
    assert (compared["same"], compared["only_a"], compared["only_b"]) == (2, 1, 1)
    lines = ok("diff", "数数", "再数", "--db", db).splitlines()
    assert lines[0].split(" | ")[1].startswith("再数@")
    assert "= 自然数50的后面是几?" in lines and "< 再往后呢?" in lines
    assert "> 世界上最大的海洋是哪个?" in lines
    assert all(len(line) <= 80 for line in lines)
    assert json.loads(ok("diff", "再数", "数数@7", "--json", "--db", db))["b"]["version"] == 7
    assert "there is no conversation nobody" in refused("diff", "数数", "nobody", "--db", db)


@pytest.mark.parametrize("columns", ["40", "100"])
def test_diff_marks_changed_words(db: str, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    file = Path(db).with_name("other.json")
    file.write_text(
        json.dumps([{"role": "user", "content": QUESTIONS[0]}, {"role": "assistant", "content": "五十二"}])
    )
    other = ok("import", str(file), "--db", db).split()[0]
    text = ok("diff", "数数@4", other, "--db", db)
    assert "~ 自然数50的后面是几?" in text
    assert "[-51-]" in text and "{+五十二+}" in text


def test_diff_without_a_common_question_is_refused(db: str) -> None:
    ok("newchat", "--offline", "-c", "别的", "世界上最大的海洋是哪个?", "--db", db)
    assert "no question in common" in refused("diff", "数数", "别的", "--db", db)
