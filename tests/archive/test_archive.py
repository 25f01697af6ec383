"""Archives: export and import keep the bytes, and a damaged file is refused as a whole."""

from __future__ import annotations

import gzip
import io
import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from openai2 import ArchiveError, BadInput, Engine, UnknownConversation, user_msg
from openai2.core import events as ev
from tests.support.archives import exported, import_states
from tests.support.stores import busy, long


def _all_views(engine: Engine) -> dict[str, list[object]]:
    """Return every view of every version of every conversation."""
    found: dict[str, list[object]] = {}
    for line in engine.conversations(archived=None):
        conversation = engine.open(line.id)
        found[line.id] = [
            conversation.view_messages(version) for version in range(1, conversation.version + 1)
        ]
    return found


def test_imported_archive_exports_to_the_same_bytes() -> None:
    with Engine() as here, Engine() as there:
        busy(here)
        long(here, size=800)
        here.redact("side", here.open("side").view_messages()[-1].id)
        raw = exported(here)
        there.create("another")  # so that positions differ
        assert import_states(there, raw) == {"new": 7}
        assert there.verify().ok
        ours = _all_views(here)
        assert {name: view for name, view in _all_views(there).items() if name in ours} == ours
        assert here.heads().items() <= there.heads().items()
        assert exported(there, *here.heads()) == raw
        assert import_states(there, raw) == {"known": 7}
        assert here.open("side").events().__next__() is not None
        times = [record.time for record in here.open("main").events()]
        assert times == [record.time for record in there.open("main").events()]


def test_archive_has_counts_and_heads(engine: Engine) -> None:
    busy(engine)
    first, *events, last = exported(engine).decode().splitlines()
    assert json.loads(first) == {"openai2": "archive", "format": 1, "conversations": 6, "events": len(events)}
    assert json.loads(last) == {"heads": dict(sorted(engine.heads().items()))}


def test_export_of_a_fork_includes_its_ancestors() -> None:
    with Engine() as here, Engine() as there:
        busy(here)
        out = io.BytesIO()
        report = here.export(["deeper"], file=out)
        assert sorted(report.added) == sorted([here.open("main").id, here.open("side").id])
        import_states(there, out.getvalue())
        assert there.open("deeper").messages() == here.open("deeper").messages()
        assert there.verify().ok


def test_unknown_conversations_and_paths_are_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(UnknownConversation):
        engine.export(["nobody"], file=io.BytesIO())
    with pytest.raises(BadInput, match="cannot be written"):
        engine.export(file=tmp_path / "no" / "such" / "folder")
    with pytest.raises(BadInput, match="cannot be read"):
        engine.import_(tmp_path / "nothing")
    with pytest.raises((BadInput, ArchiveError)):
        engine.import_(tmp_path)


def test_interrupted_export_leaves_the_old_file(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "all.jsonl"
    path.write_bytes(b"old")
    long(engine, size=20_000)
    long(engine, "second", size=2_000)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.export(file=path, progress=stop)
    assert {file.name for file in tmp_path.iterdir() if "store.db" not in file.name} == {"all.jsonl"}
    assert path.read_bytes() == b"old"
    calls: list[tuple[int, int]] = []
    engine.export(file=path, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (22_002, 22_002)
    with Engine() as there:
        calls.clear()
        assert there.import_(path, progress=lambda done, total: calls.append((done, total))).events == 22_002
        assert calls == sorted(calls) and calls[-1][0] == calls[-1][1]
        assert there.verify().ok


def test_pipe_can_be_imported(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    with Engine() as here, Engine() as there:
        busy(here)
        assert there.import_(Pipe(exported(here))).events
        assert here.heads() == there.heads()


def test_taken_name_gets_a_number_in_the_list_only() -> None:
    with Engine() as here, Engine() as there:
        here.create("plans").add([user_msg("ours")])
        there.create("plans").add([user_msg("theirs")])
        report = there.import_(io.BytesIO(exported(here)))
        assert [arrived.name for arrived in report.conversations] == ["plans (2)"]
        assert there.open("plans").messages() == [user_msg("theirs")]
        assert there.open("plans (2)").messages() == [user_msg("ours")]
        assert there.open("plans (2)").head == here.open("plans").head
        assert there.verify().ok
        there.rebuild()
        assert there.verify().ok
        assert there.open("plans (2)").messages() == [user_msg("ours")]


def _archive() -> bytes:
    with Engine() as engine:
        busy(engine)
        engine.redact("side", engine.open("side").view_messages()[-1].id)
        return exported(engine)


def _import_or_refuse(raw: bytes, whole: bytes) -> bool:
    """Import *raw*; return False if it is refused with one sentence and without any change."""
    with Engine() as engine:
        engine.create("existing")
        before = engine.heads()
        try:
            engine.import_(io.BytesIO(raw))
        except ArchiveError as error:
            text = str(error)
            assert text and "\n" not in text and engine.heads() == before
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
        first, second = sorted(chance.sample(range(len(lines)), 2))
        swapped = lines.copy()
        swapped[first], swapped[second] = swapped[second], swapped[first]
        mutants += [
            whole[:place] + bytes([whole[place] ^ (1 << chance.randrange(8))]) + whole[place + 1 :],
            whole[:place] + whole[place + 1 :],
            whole[:place] + b" " + whole[place:],
            whole[:place],
            b"".join(lines[:first] + lines[first + 1 :]),
            b"".join([*lines[: first + 1], *lines[first:]]),
            b"".join(lines[:first] + lines[second:]),
            b"".join(swapped),
        ]
    return mutants


def _check_mutants(tries: int, seed: int) -> None:
    whole = _archive()
    assert _import_or_refuse(whole, whole)
    for mutant in _mutants(whole, random.Random(seed), tries):
        if mutant != whole and _import_or_refuse(mutant, whole):
            assert sorted(mutant.splitlines()) == sorted(whole.splitlines()), "only the order differs"


def test_mutated_archive_is_complete_or_refused() -> None:
    _check_mutants(60, 1)


@pytest.mark.torture
def test_many_mutated_archives_are_complete_or_refused() -> None:
    _check_mutants(1500, 2)


_OTHER_FILES: list[tuple[Callable[[bytes], bytes], str]] = [
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
    (lambda raw: b'{"some":"json"}\n', "not an openai2 archive"),
    (lambda raw: b"{", "not an openai2 archive"),
    (lambda raw: b"hello", "not an openai2 archive"),
    (lambda raw: b"\xff\xfa\xfb", "not UTF-8"),
    (lambda raw: b"\x89PNG\r\n\x1a\n\0\0\0", "not UTF-8"),
    (lambda raw: b"[1, 2]", "not a list of messages"),
    (lambda raw: b"[" * 100_000, "not a list of messages"),
    (lambda raw: b"{" * 100_000, "not an openai2 archive"),
    (lambda raw: b'[{"role":"user"}]', "not a list of messages"),
]


@pytest.mark.parametrize(("change", "word"), _OTHER_FILES)
def test_other_file_is_refused_with_one_sentence(
    engine: Engine, change: Callable[[bytes], bytes], word: str
) -> None:
    busy(engine)
    raw = change(exported(engine))
    with Engine() as there:
        with pytest.raises(ArchiveError, match=word) as raised:
            there.import_(io.BytesIO(raw))
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 400
        assert not there.heads()


def test_invalid_reference_in_a_sound_chain_is_refused() -> None:
    with Engine() as here, Engine() as there:
        here.store.append("a" * 16, 0, [ev.Created(), ev.Pinned(messages=[7])])
        with pytest.raises(ArchiveError, match="is not in the view"):
            there.import_(io.BytesIO(exported(here)))


@pytest.mark.parametrize(
    "raw",
    [b"[]", b" [ ]\n", b'{"openai2":"archive","format":1,"conversations":0,"events":0}\n{"heads":{}}\n'],
)
def test_file_that_holds_nothing_is_refused(engine: Engine, raw: bytes) -> None:
    with pytest.raises(ArchiveError, match="nothing was imported"):
        engine.import_(io.BytesIO(raw))
    assert engine.conversations(None) == [] and engine.heads() == {}
