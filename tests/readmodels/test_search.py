"""Search results: which messages are found, and the view that each result names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import openai2
from openai2 import Engine, assistant_msg, user_msg
from tests.support.stores import asked, busy, texts_of


def test_results_are_ordered_by_rank_then_newest(engine: Engine) -> None:
    chat = engine.create("c")
    chat.add([user_msg("fox and many other words"), user_msg("fox"), user_msg("fox"), user_msg("fox fox")])
    found = engine.search("fox")
    assert [it.id for it in found] == [5, 4, 3, 2]
    assert [it.rank for it in found] == sorted(it.rank for it in found)
    assert [it.id for it in engine.search("fox", limit=2)] == [5, 4]
    assert len(engine.search("fox", limit=None)) == 4


def test_search_covers_all_text_of_a_message(engine: Engine) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Oslo"}'}}
    engine.create().add(
        [
            {"role": "user", "content": [{"type": "text", "text": "partly"}, {"type": "image_url"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "assistant", "content": None, "refusal": "sorry"},
        ]
    )
    found = [engine.search(word)[0] for word in ("partly", "weather", "oslo", "sorry")]
    assert [it.id for it in found] == [2, 3, 3, 4]
    assert [it.role for it in found] == ["user", "assistant", "assistant", "assistant"]
    assert found[0].name is None


def test_result_names_a_view_that_holds_the_message(engine: Engine) -> None:
    streams = busy(engine)
    for it in engine.search("a OR 2 OR 3 OR deep OR one OR three OR 二 OR elsewhere", raw=True, limit=None):
        holder = engine.open(it.conversation)
        messages = {item.id: item.message for item in holder.view_messages(it.version)}
        if it.joined:
            assert messages[it.id]["role"] == it.role
        else:
            assert it.id not in messages
    assert streams


def test_result_version_of_question_is_its_answers(engine: Engine) -> None:
    chat = engine.create("c")
    asked(chat, "lucky", "yes")
    asked(chat, "unlucky", None)
    asked(chat, "next", "done")
    asked(chat, "again", None)
    asked(chat, "", "at last", again=engine.search("again")[0].id)
    lucky, unlucky, again = (engine.search(word)[0] for word in ("lucky", "unlucky", "again"))
    assert (lucky.version, lucky.joined) == (engine.search("yes")[0].version, True)
    assert (unlucky.version, unlucky.joined) == (unlucky.id, False)
    assert (again.version, again.joined) == (engine.search("at last")[0].version, True)


def test_inherited_message_is_found_once(engine: Engine) -> None:
    main = engine.create("main")
    main.add([user_msg("shared fox")])
    fork = main.fork("fork")
    main.add([user_msg("later fox")])
    fork.add([user_msg("forked fox")])
    assert {(it.name, it.text) for it in engine.search("fox")} == {
        ("main", "shared fox"),
        ("main", "later fox"),
        ("fork", "forked fox"),
    }
    assert {*texts_of(engine.search("fox", conversation="fork"))} == {"shared fox", "forked fox"}
    assert {*texts_of(engine.search("fox", conversation=main.id))} == {"shared fox", "later fox"}
    inherited = next(it for it in engine.search("fox") if it.name == "fork")
    assert inherited.id == 4 and fork.message(4)["content"] == "forked fox"


def test_current_search_finds_only_messages_in_view(engine: Engine) -> None:
    main = engine.create("main")
    main.add([user_msg("kept fox"), assistant_msg("yes"), user_msg("gone fox"), assistant_msg("no")])
    fork = main.fork("fork")
    deeper = fork.fork("deeper")
    main.rollback()
    assert {(it.name, it.text) for it in engine.search("fox", current=True)} == {
        ("main", "kept fox"),
        ("fork", "gone fox"),
    }
    fork.rollback()
    gone = next(it for it in engine.search("fox", current=True) if it.text == "gone fox")
    assert gone.name == "deeper"
    assert gone.id in {item.id for item in deeper.view_messages(gone.version)}
    deeper.rollback()
    assert texts_of(engine.search("fox", current=True)) == ["kept fox"]
    assert texts_of(engine.search("fox", current=True, conversation="deeper")) == ["kept fox"]
    main.undo()
    assert len(engine.search("fox", current=True)) == 2
    assert texts_of(engine.search("fox", current=True, conversation="fork")) == ["kept fox"]


def test_search_imports_no_heavy_module(engine: Engine, tmp_path: Path) -> None:
    engine.create("c").add([user_msg("fox")])
    assert openai2.__file__
    code = (
        "import sys; from openai2 import Engine\n"
        "with Engine(sys.argv[1]) as engine: assert engine.search('fox')\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "store.db")],
        cwd=Path(openai2.__file__).parent.parent, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert not {"openai", "rich", "sqlite_utils", "prompt_toolkit", "click", "asyncio"} & {*loaded}
