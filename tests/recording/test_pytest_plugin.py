"""The pytest fixture `openai2_recording` and its marker."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from openai2.offline import OfflineServer
from tests.support.recording import ADDRESS

SUITE = """
import os
import openai
import pytest

def ask(text):
    with openai.OpenAI(api_key="sk-test", base_url=os.environ["ADDRESS"], max_retries=0) as api:
        done = api.chat.completions.create(model="m", messages=[{"role": "user", "content": text}])
        return done.choices[0].message.content

def test_it(openai2_recording):
    assert ask("自然数50的后面是几?") == "51"

@pytest.mark.openai2_recording(ignore=["messages"])
@pytest.mark.parametrize("text", ["a/b"])
def test_loose(openai2_recording, text):
    assert ask(os.environ["TEXT"])

def test_changed(openai2_recording):
    assert ask(os.environ["TEXT"])

def test_failing(openai2_recording):
    ask("x")
    raise ZeroDivisionError
"""


def test_fixture_records_passing_tests(offline: OfflineServer, tmp_path: Path) -> None:
    (tmp_path / "test_suite.py").write_text(SUITE, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")

    def run(address: str, text: str) -> str:
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:cacheprovider", "."]
        if not _installed():
            command[3:3] = ["-p", "openai2.pytest_plugin"]
        paths = os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]))
        environment = {**os.environ, "ADDRESS": address, "TEXT": text, "PYTHONPATH": paths}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    output = run(offline.base_url, "first")
    assert "1 failed, 3 passed" in output, output
    written = sorted(path.name for path in (tmp_path / "recordings").iterdir())
    names = ["test_changed", "test_it", "test_loose-a-b"]
    assert written == [f"test_suite.{name}.jsonl" for name in names]
    output = run(ADDRESS, "second")
    assert "2 failed, 2 passed" in output, output
    assert "messages.0.content" in output and "ZeroDivisionError" not in output.split("test_changed")[0]


def _installed() -> bool:
    from importlib.metadata import entry_points

    return any(point.value == "openai2.pytest_plugin" for point in entry_points(group="pytest11"))


def test_plugin_imports_nothing_heavy() -> None:
    code = (
        "import sys, pytest, openai2.pytest_plugin; print('httpx2' in sys.modules, 'openai' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
