"""`demo`: the guided tour."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.cli import ok, run


def test_demo_runs_twice_on_one_database(tmp_path: Path) -> None:
    path = str(tmp_path / "demo's.db")
    done = run("demo", "--db", path)
    assert done.returncode == 0, done.stderr
    for part in (
        "太平洋",
        "rolled back 2 rounds",
        "[0] user (pinned)",
        "华盛顿",
        "forked from Anna@",
        ": 0 problems",
    ):
        assert part in done.stdout, part
    assert f"openai2 chat --offline --db '{tmp_path}/demo'\"'\"'s.db'" in done.stdout
    assert "\x1b" not in done.stdout
    assert run("demo", "--db", path).returncode == 0, "names that exist get a number"
    assert json.loads(ok("verify", "--json", "--db", path))["ok"]
