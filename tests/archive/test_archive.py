"""Archives: the same streams and bytes elsewhere, whole or refused, and safe to repeat."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from openai2 import ArchiveError, BadInput, Engine, UnknownConversation, assistant_msg, system_msg, user_msg
from openai2.archive import markdown, renumber
from openai2.core import events as ev
from tests.support.stores import asked, busy, long


def _export(engine: Engine, *names: str) -> bytes:
    out = io.BytesIO()
    engine.export(names or None, file=out)
    return out.getvalue()


def _import(engine: Engine, raw: bytes) -> dict[str, int]:
    """How many conversations came in which state."""
    report = engine.import_(io.BytesIO(raw))
    states = [one.state for one in report.conversations]
    return {state: states.count(state) for state in states}


def _all(engine: Engine) -> dict[str, list[object]]:
    """Every view of every version of every conversation."""
    found: dict[str, list[object]] = {}
    for line in engine.conversations(archived=None):
        conversation = engine.open(line.id)
        found[line.id] = [
            conversation.view_messages(version) for version in range(1, conversation.version + 1)
        ]
    return found


# -- there and back


def test_what_was_imported_is_the_same_and_exports_to_the_same_bytes() -> None:
    with Engine() as here, Engine() as there:
        busy(here)
        long(here, size=800)
        here.redact("side", here.open("side").view_messages()[-1].id)
        raw = _export(here)
        there.create("another, so that positions differ")
        assert _import(there, raw) == {"new": 7}
        assert there.verify().ok
        ours = _all(here)
        assert {name: view for name, view in _all(there).items() if name in ours} == ours
        assert here.heads().items() <= there.heads().items()
        assert _export(there, *here.heads()) == raw
        assert _import(there, raw) == {"known": 7}
        assert here.open("side").events().__next__() is not None
        times = [record.time for record in here.open("main").events()]
        assert times == [record.time for record in there.open("main").events()]


def test_an_archive_states_its_counts_and_heads() -> None:
    with Engine() as engine:
        busy(engine)
        first, *events, last = _export(engine).decode().splitlines()
        assert json.loads(first) == {
            "openai2": "archive",
            "format": 1,
            "conversations": 6,
            "events": len(events),
        }
        assert json.loads(last) == {"heads": dict(sorted(engine.heads().items()))}


def test_a_fork_brings_its_ancestors() -> None:
    with Engine() as here, Engine() as there:
        busy(here)
        out = io.BytesIO()
        report = here.export(["deeper"], file=out)
        assert sorted(report.added) == sorted([here.open("main").id, here.open("side").id])
        _import(there, out.getvalue())
        assert there.open("deeper").messages() == here.open("deeper").messages()
        assert there.verify().ok


def test_unknown_conversations_and_places_are_refused(tmp_path: Path) -> None:
    with Engine() as engine:
        with pytest.raises(UnknownConversation):
            engine.export(["nobody"], file=io.BytesIO())
        with pytest.raises(BadInput, match="cannot be written"):
            engine.export(file=tmp_path / "no" / "such" / "folder")
        with pytest.raises(BadInput, match="cannot be read"):
            engine.import_(tmp_path / "nothing")
        with pytest.raises((BadInput, ArchiveError)):
            engine.import_(tmp_path)


def test_a_path_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    path.write_bytes(b"what was there")
    with Engine() as engine:
        long(engine, size=20_000)

        def stop(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            engine.export(file=path, progress=stop)
        assert [file.name for file in tmp_path.iterdir()] == ["all.jsonl"]
        assert path.read_bytes() == b"what was there"
        told: list[tuple[int, int]] = []
        engine.export(file=path, progress=lambda done, total: told.append((done, total)))
        assert told[-1] == (20_001, 20_001)
        with Engine() as there:
            told.clear()
            assert (
                there.import_(path, progress=lambda done, total: told.append((done, total))).events == 20_001
            )
            assert told == sorted(told) and told[-1][0] == told[-1][1]
            assert there.verify().ok


# -- what is there already


def test_a_stream_that_went_on_is_extended() -> None:
    with Engine() as here, Engine() as there:
        busy(here)
        _import(there, _export(here))
        handle = there.open("main")
        handle.messages()
        here.open("main").add([user_msg("more")])
        old = _export(here)
        here.redact("main", 4, reason="later")
        assert _import(there, _export(here)) == {"extended": 1, "known": 5}
        assert handle.messages() == here.open("main").messages()
        assert here.heads() == there.heads()
        assert there.verify().ok
        assert _import(there, old) == {"known": 6}, "an older archive takes nothing back"


def test_streams_that_went_on_differently_are_both_kept() -> None:
    with Engine() as here, Engine() as there:
        main = here.create("main")
        main.add([system_msg("s"), user_msg("1"), assistant_msg("2")])
        _import(there, _export(here))
        there.open("main").add([user_msg("there")])
        main.add([user_msg("here")])
        main.pin(0)
        asked(main, "q", "a")
        kept = there.open("main").messages()
        report = there.import_(io.BytesIO(_export(here)))
        (one,) = report.conversations
        assert (one.state, one.diverged_from, one.common) == ("diverged", main.id, 4)
        assert there.open("main").messages() == kept
        fork = there.open(one.id)
        assert fork.messages() == main.messages()
        assert [it.pinned for it in fork.view_messages()] == [it.pinned for it in main.view_messages()]
        first = next(fork.events()).event
        assert isinstance(first, ev.Forked) and (first.reason, first.version) == ("diverged", 4)
        assert there.verify().ok
        assert _import(there, _export(here)) == {"known": 1}
        main.add([user_msg("on")])
        assert _import(there, _export(here)) == {"diverged": 1}
        assert fork.messages() == main.messages()
        assert there.verify().ok and len(there.conversations()) == 2


@pytest.mark.parametrize("steps", [1, 2, 3, 9])
def test_an_undo_that_goes_back_behind_the_parting_is_kept(steps: int) -> None:
    with Engine() as here, Engine() as there:
        main = here.create("main")
        for number in range(4):
            asked(main, f"q{number}", f"a{number}")
        _import(there, _export(here))
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
        report = there.import_(io.BytesIO(_export(here)))
        assert [one.state for one in report.conversations] == ["diverged"] * 3
        for one, original in zip(report.conversations, (main, child, grand), strict=True):
            assert there.open(one.id).messages() == original.messages()
        assert there.verify().ok
        assert _import(there, _export(here)) == {"known": 3}


def test_forks_of_what_is_common_stay_what_they_are() -> None:
    with Engine() as here, Engine() as there:
        main = here.create("main")
        main.add([user_msg("1"), user_msg("2")])
        _import(there, _export(here))
        there.open("main").add([user_msg("there")])
        main.add([user_msg("here")])
        child = main.fork("child", at=2)
        child.add([user_msg("c")])
        report = there.import_(io.BytesIO(_export(here)))
        assert [one.state for one in report.conversations] == ["diverged", "new"]
        assert there.open("child").id == child.id
        assert there.open("child").head == child.head


def test_names_that_clash_are_told_apart_in_the_list_alone() -> None:
    with Engine() as here, Engine() as there:
        here.create("plans").add([user_msg("ours")])
        there.create("plans").add([user_msg("theirs")])
        report = there.import_(io.BytesIO(_export(here)))
        assert [one.name for one in report.conversations] == ["plans (2)"]
        assert there.open("plans").messages() == [user_msg("theirs")]
        assert there.open("plans (2)").messages() == [user_msg("ours")]
        assert there.open("plans (2)").head == here.open("plans").head
        assert there.verify().ok
        there.rebuild()
        assert there.verify().ok
        assert there.open("plans (2)").messages() == [user_msg("ours")]


# -- whole or refused


def _archive() -> bytes:
    with Engine() as engine:
        busy(engine)
        engine.redact("side", engine.open("side").view_messages()[-1].id)
        return _export(engine)


def _try(raw: bytes, whole: bytes) -> bool:
    """Import *raw*: whole, or refused with a sentence and nothing done. Whether it was whole."""
    with Engine() as engine:
        engine.create("here before")
        before = engine.heads()
        try:
            engine.import_(io.BytesIO(raw))
        except ArchiveError as refusal:
            told = str(refusal)
            assert told and "\n" not in told and engine.heads() == before
            return False
        heads = json.loads(whole.splitlines()[-1])["heads"]
        assert heads.items() <= engine.heads().items()
        assert engine.verify().ok
        return True


def _mutants(whole: bytes, chance: random.Random, tries: int) -> list[bytes]:
    lines = whole.splitlines(keepends=True)
    mutants: list[bytes] = []
    for _ in range(tries):
        place = chance.randrange(len(whole))
        one, other = sorted(chance.sample(range(len(lines)), 2))
        swapped = lines.copy()
        swapped[one], swapped[other] = swapped[other], swapped[one]
        mutants += [
            whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :],
            whole[:place] + whole[place + 1 :],
            whole[:place] + b" " + whole[place:],
            whole[:place],
            b"".join(lines[:one] + lines[one + 1 :]),
            b"".join([*lines[: one + 1], *lines[one:]]),
            b"".join(lines[:one] + lines[other:]),
            b"".join(swapped),
        ]
    return mutants


def _check_mutants(tries: int, seed: int) -> None:
    whole = _archive()
    assert _try(whole, whole)
    for mutant in _mutants(whole, random.Random(seed), tries):
        if mutant != whole and _try(mutant, whole):
            assert sorted(mutant.splitlines()) == sorted(whole.splitlines()), "streams in another order"


def test_mutated_archives_are_whole_or_refused() -> None:
    _check_mutants(60, 1)


@pytest.mark.torture
def test_many_mutated_archives_are_whole_or_refused() -> None:
    _check_mutants(1500, 2)


_BENDS: list[tuple[Callable[[bytes], bytes], str]] = [
    (lambda raw: b"", "empty"),
    (lambda raw: b"  \n", "empty"),
    (lambda raw: raw[:-1], "end"),
    (lambda raw: raw.rpartition(b'{"heads"')[0], "cut off"),
    (lambda raw: raw.splitlines(keepends=True)[0], "cut off"),
    (lambda raw: raw + b"\n", "end"),
    (lambda raw: raw + raw, "end"),
    (gzip.compress, "gzip"),
    (lambda raw: b"\xef\xbb\xbf" + raw, "byte order mark"),
    (lambda raw: raw.decode().encode("utf-16"), "UTF-16"),
    (lambda raw: raw.decode().encode("utf-16-le"), "UTF-16"),
    (lambda raw: raw.replace(b"\n", b"\r\n"), "changed"),
    (lambda raw: raw.replace(b'"format":1', b'"format":2', 1), "newer"),
    (lambda raw: raw.replace(b'"format":1', b'"format":0', 1), "changed"),
    (lambda raw: b'{"some":"json"}\n', "no archive"),
    (lambda raw: b"{", "no archive"),
    (lambda raw: b"hello", "no archive"),
    (lambda raw: b"\xff\xfa\xfb", "not UTF-8"),
    (lambda raw: b"\x89PNG\r\n\x1a\n\0\0\0", "not UTF-8"),
    (lambda raw: b"[1, 2]", "no list of messages"),
    (lambda raw: b"[" * 100_000, "no list of messages"),
    (lambda raw: b"{" * 100_000, "no archive"),
    (lambda raw: b'[{"role":"user"}]', "no list of messages"),
]


@pytest.mark.parametrize(("bend", "word"), _BENDS)
def test_what_is_no_archive_is_refused_with_a_sentence(bend: Callable[[bytes], bytes], word: str) -> None:
    with Engine() as engine:
        busy(engine)
        raw = bend(_export(engine))
        with Engine() as there:
            with pytest.raises(ArchiveError, match=word) as told:
                there.import_(io.BytesIO(raw))
            assert "\n" not in str(told.value) and len(str(told.value)) < 400
            assert not there.heads()


def test_a_sound_chain_that_tells_nonsense_is_refused() -> None:
    with Engine() as here, Engine() as there:
        here.store.append("a" * 16, 0, [ev.Created(), ev.Pinned(messages=[7])])
        with pytest.raises(ArchiveError, match="does not stand in the view"):
            there.import_(io.BytesIO(_export(here)))


def test_a_pipe_can_be_imported(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with Engine() as here, Engine() as there:
        busy(here)
        assert there.import_(Pipe(_export(here))).events
        assert here.heads() == there.heads()


# -- messages and transcripts


def test_a_list_of_messages_comes_in_and_one_undo_takes_it_back() -> None:
    messages = [
        system_msg("s"),
        user_msg("ü"),
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
    ]
    with Engine() as engine:
        report = engine.import_(io.BytesIO(json.dumps(messages, indent=2).encode()))
        conversation = engine.open(report.conversations[0].id)
        assert conversation.messages() == messages
        conversation.undo()
        assert not conversation.messages()
        assert engine.verify().ok


_TEXTS = [
    *("", "\n", "\n\n", "## user", "\\## user", "a\n## assistant (pinned)\n\nb", "```\n## user\n"),
    *("```json\n{}\n```", " ## user", "##user", "x\n\n", "\n\nx", "\\", "\\\\## x as JSON", "a\r\nb"),
    "<!-- openai2 transcript 1 -->",
]


@st.composite
def _message(draw: st.DrawFn) -> tuple[dict[str, Any], bool]:
    text = draw(st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(_TEXTS))
    role = draw(st.sampled_from(["user", "assistant", "strange röle"]))
    message: dict[str, Any] = {"role": role, "content": text}
    if draw(st.booleans()):
        message = {"role": role, "content": [{"type": "text", "text": text}], "name": text}
    return message, draw(st.booleans())


@given(st.lists(_message(), max_size=5))
def test_a_transcript_comes_back_exactly(told: list[tuple[dict[str, Any], bool]]) -> None:
    encoded, pins = markdown.read(markdown.write(told))
    assert [msgspec.json.decode(raw) for raw in encoded] == [message for message, _ in told]
    assert pins == [place for place, (_, pinned) in enumerate(told) if pinned]


def test_a_transcript_is_imported_with_its_pins() -> None:
    with Engine() as here, Engine() as there:
        main = busy(here)["main"]
        main.pin(0)
        text = markdown.write([(held.message, held.pinned) for held in main.view_messages()])
        report = there.import_(io.BytesIO(text.encode()))
        copy = there.open(report.conversations[0].id)
        assert copy.messages() == main.messages()
        assert [it.pinned for it in copy.view_messages()] == [it.pinned for it in main.view_messages()]
        copy.undo()
        assert not copy.messages()
        assert there.verify().ok


# -- counting anew


def test_every_number_in_an_event_is_counted_anew_or_known_not_to_be() -> None:
    """A field that holds ids or versions and was forgotten would be found here."""
    plain = {
        *("messages", "rounds", "limit", "status", "seconds", "base", "replays"),
        *("usage", "attempts", "options", "choices", "name"),
    }
    for kind in ev.TYPES.values():
        for field in msgspec.structs.fields(kind):
            told = str(field.type)
            if "int" in told and field.name not in renumber.IDS | renumber.VERSIONS:
                assert field.name in plain, f"{kind.type}.{field.name}"
    for field in msgspec.structs.fields(ev.Answer):
        if "int" in str(field.type) and field.name not in renumber.VERSIONS:
            assert field.name in plain, f"answer.{field.name}"


# -- other formats


def test_one_view_can_be_written_as_messages_or_markdown_and_comes_back() -> None:
    with Engine() as here, Engine() as there:
        main = busy(here)["main"]
        for form in ("messages", "markdown"):
            out = io.BytesIO()
            here.export(["main"], file=out, format=form)
            report = there.import_(io.BytesIO(out.getvalue()))
            assert there.open(report.conversations[0].id).messages() == main.messages()
        for names, form in (([], "messages"), (["main", "side"], "markdown"), (["main"], "word")):
            with pytest.raises(BadInput):
                here.export(names, file=io.BytesIO(), format=form)
