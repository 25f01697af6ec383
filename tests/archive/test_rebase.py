"""Import into a store that has the same streams: extended, or rebased as a fork if they diverged."""

from __future__ import annotations

import io

import msgspec
import pytest

from openai2 import Engine, assistant_msg, system_msg, user_msg
from openai2.archive import rebase
from openai2.core import events as ev
from tests.support.archives import exported, import_states
from tests.support.stores import asked, busy


def test_stream_with_more_events_is_extended() -> None:
    with Engine() as here, Engine() as there:
        busy(here)
        import_states(there, exported(here))
        handle = there.open("main")
        handle.messages()
        here.open("main").add([user_msg("more")])
        old = exported(here)
        here.redact("main", 4, reason="later")
        assert import_states(there, exported(here)) == {"extended": 1, "known": 5}
        assert handle.messages() == here.open("main").messages()
        assert here.heads() == there.heads()
        assert there.verify().ok
        assert import_states(there, old) == {"known": 6}, "an older archive changes nothing"


def test_diverged_stream_is_imported_as_a_fork() -> None:
    with Engine() as here, Engine() as there:
        main = here.create("main")
        main.add([system_msg("s"), user_msg("1"), assistant_msg("2")])
        import_states(there, exported(here))
        there.open("main").add([user_msg("there")])
        main.add([user_msg("here")])
        main.pin(0)
        asked(main, "q", "a")
        kept = there.open("main").messages()
        report = there.import_(io.BytesIO(exported(here)))
        (arrived,) = report.conversations
        assert (arrived.state, arrived.diverged_from, arrived.common) == ("diverged", main.id, 4)
        assert there.open("main").messages() == kept
        fork = there.open(arrived.id)
        assert fork.messages() == main.messages()
        assert [held.pinned for held in fork.view_messages()] == [
            held.pinned for held in main.view_messages()
        ]
        first = next(fork.events()).event
        assert isinstance(first, ev.Forked) and (first.reason, first.version) == ("diverged", 4)
        assert there.verify().ok
        assert import_states(there, exported(here)) == {"known": 1}
        main.add([user_msg("on")])
        assert import_states(there, exported(here)) == {"diverged": 1}
        assert fork.messages() == main.messages()
        assert there.verify().ok and len(there.conversations()) == 2


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_undo_to_before_the_divergence_is_kept(steps: int) -> None:
    with Engine() as here, Engine() as there:
        main = here.create("main")
        for number in range(4):
            asked(main, f"q{number}", f"a{number}")
        import_states(there, exported(here))
        there.open("main").rollback()
        main.undo(steps)
        main.redo()
        main.add([user_msg("on")])
        here.redact("main", 3)
        child = main.fork("child")
        child.add([user_msg("child")])
        grand = child.fork("grand", at=1)
        grand.add([user_msg("grand")])
        grand.undo()
        report = there.import_(io.BytesIO(exported(here)))
        assert [arrived.state for arrived in report.conversations] == ["diverged"] * 3
        for arrived, original in zip(report.conversations, (main, child, grand), strict=True):
            assert there.open(arrived.id).messages() == original.messages()
        assert there.verify().ok
        assert import_states(there, exported(here)) == {"known": 3}


def test_fork_of_common_versions_is_not_rebased() -> None:
    with Engine() as here, Engine() as there:
        main = here.create("main")
        main.add([user_msg("1"), user_msg("2")])
        import_states(there, exported(here))
        there.open("main").add([user_msg("there")])
        main.add([user_msg("here")])
        child = main.fork("child", at=2)
        child.add([user_msg("c")])
        report = there.import_(io.BytesIO(exported(here)))
        assert [arrived.state for arrived in report.conversations] == ["diverged", "new"]
        assert there.open("child").id == child.id
        assert there.open("child").head == child.head


def test_every_number_field_is_renumbered_or_listed() -> None:
    """A new field that holds ids or versions is missing from IDS and VERSIONS, or belongs into this list."""
    plain = {
        *("messages", "rounds", "limit", "status", "seconds", "base", "replays"),
        *("usage", "attempts", "options", "choices", "name"),
    }
    for kind in ev.TYPES.values():
        for field in msgspec.structs.fields(kind):
            if "int" in str(field.type) and field.name not in rebase.IDS | rebase.VERSIONS:
                assert field.name in plain, f"{kind.type}.{field.name}"
    for field in msgspec.structs.fields(ev.Answer):
        if "int" in str(field.type) and field.name not in rebase.VERSIONS:
            assert field.name in plain, f"answer.{field.name}"
