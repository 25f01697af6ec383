"""Random histories compared with a model of plain lists: the view, its pins, and every version of both."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from openai2 import Engine, NoIndex, NoRoom, Refused, assistant_msg, user_msg
from openai2.conversation import Conversation
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core import projection, request_events, snapshot
from openai2.core.request_events import OpenRequest, RequestError, RequestSpec
from openai2.errors import BadInput
from openai2.request.effects import Open

#: A message and whether it is pinned. The number in its text makes each message unique.
Item = tuple[str, str]  # kind, text
View = list[tuple[Item, bool]]

KINDS: dict[str, Callable[[str], dict[str, Any]]] = {
    "u": user_msg,
    "a": assistant_msg,
    "s": lambda text: {"role": "system", "content": text},
    "c": lambda text: {"role": "assistant", "content": None, "tool_calls": [{"id": text}]},
    "t": lambda text: {"role": "tool", "tool_call_id": "x", "content": text},
}


def message(item: Item) -> dict[str, Any]:
    return KINDS[item[0]](item[1])


def units(items: list[Item]) -> list[list[int]]:
    """Return the places that truncation keeps or removes together: a call and its results, or one."""
    found: list[list[int]] = []
    for place, (kind, _) in enumerate(items):
        if kind == "t" and found and items[found[-1][0]][0] == "c":
            found[-1].append(place)
        else:
            found.append([place])
    return found


def cut(view: View, limit: int, protected: int) -> View:
    """Remove the earliest unpinned messages until *limit* remain; the last *protected* stay."""
    gone: list[int] = []
    for unit in units([item for item, _ in view]):
        if len(view) - len(gone) <= limit or unit[-1] >= len(view) - protected:
            break
        if not any(view[place][1] for place in unit):
            gone += unit
    return [entry for place, entry in enumerate(view) if place not in gone]


def last_unit(view: View) -> int:
    return len(units([item for item, _ in view])[-1]) if view else 0


def limited(view: View, limit: int | None) -> View | None:
    """The view as an addition leaves it; None where pinned messages leave no room."""
    left = view if limit is None else cut(view, limit, last_unit(view))
    return left if limit is None or len(left) <= limit else None


def number(item: Item) -> int:
    return int(item[1][1:])


class Asked(NamedTuple):
    """What a request asks, which messages it leaves out, and what its answer belongs behind."""

    question: list[Item]
    leaving: list[Item]
    after: Item | None
    retry: bool


class Pending:
    """An open request in the model. *of*: the user's question that it answers."""

    def __init__(self, begun: OpenRequest, asked: Asked, limit: int | None, of: list[Item]) -> None:
        self.begun = begun
        self.asked = asked
        self.limit = limit
        self.of = of

    def answered(self, view: View, answer: Item) -> View | None:
        """The view with the answer right behind its question; None where that place is gone or taken."""
        question, leaving, after, _ = self.asked
        if question and leaving and not any(item in leaving for item, pin in view if not pin):
            return None
        left = [(item, pin) for item, pin in view if pin or item not in leaving]
        items = [item for item, _ in left]
        if any(item in items for item in question):
            question, after = [], question[-1]
        place = len(left)
        if after is not None:
            if after not in items:
                return None
            place = items.index(after) + 1
            if place < len(left) and items[place][0] in "act":
                return None
        return limited(
            [*left[:place], *[(item, False) for item in question], (answer, False), *left[place:]], self.limit
        )


class Model:
    """A conversation in the model: its view, the view at each version, and the steps of undo."""

    def __init__(self, view: View, version: int, unanswered: Asked | None = None) -> None:
        self.view = view
        self.was: dict[int, View] = {version: view}
        self.steps: list[View] = [view]
        self.step = 0
        self.unanswered = unanswered
        self.was_unanswered = {version: unanswered}
        self.open: dict[int, Pending] = {}

    def act(self, view: View, acted: bool = True) -> None:
        """Apply an action of the user; *acted* is False if it changed nothing."""
        self.view = view
        if acted:
            self.steps = [*self.steps[: self.step + 1], view]
            self.step += 1


class Histories(RuleBasedStateMachine):
    """Several conversations in one file, with two handles each, through forks and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="openai2-model-"))
        self.patch = pytest.MonkeyPatch()
        self.engine = Engine(self.folder / "a.db", synchronous="OFF")
        self.models: dict[str, Model] = {}
        self.handles: dict[str, list[Conversation]] = {}
        self.count = 0
        self.question_of: dict[Item, list[Item]] = {}  # of a user's message, or of an answer

    @initialize(eager=st.booleans())
    def begin(self, eager: bool) -> None:
        if eager:  # take a snapshot almost always
            self.patch.setattr(snapshot, "LEAST_TAIL", 200)
            self.patch.setattr(snapshot, "SNAPSHOT_SHARE", 1.0)
        self.know(self.engine.create(), Model([], 1))

    def teardown(self) -> None:
        try:
            if self.models:
                self.check_everything()
        finally:
            self.patch.undo()
            self.engine.close()
            shutil.rmtree(self.folder)

    # -- helpers

    def know(self, conversation: Conversation, model: Model) -> None:
        self.models[conversation.id] = model
        self.handles[conversation.id] = [conversation, self.engine.open(conversation.id)]

    def pick(self, data: st.DataObject) -> tuple[Conversation, Model]:
        name = data.draw(st.sampled_from(sorted(self.models, key=list(self.models).index)), "conversation")
        return data.draw(st.sampled_from(self.handles[name]), "handle"), self.models[name]

    def item(self, kind: str) -> Item:
        self.count += 1
        return kind, f"{kind}{self.count}"

    def note(self, conversation: Conversation, model: Model) -> None:
        """Record the model's view as that of the current version."""
        model.was[conversation.version] = model.view
        model.was_unanswered[conversation.version] = model.unanswered

    def view_of(self, conversation: Conversation, version: int | None = None) -> list[tuple[Any, bool]]:
        return [(held.message, held.pinned) for held in conversation.view_messages(version)]

    # -- actions of the user

    @rule(data=st.data(), kinds=st.text("uasct", min_size=1, max_size=4), limit=st.none() | st.integers(1, 6))
    def add(self, data: st.DataObject, kinds: str, limit: int | None) -> None:
        conversation, model = self.pick(data)
        items = [self.item(kind) for kind in kinds]
        view = limited(model.view + [(item, False) for item in items], limit)
        if view is None:
            before = conversation.version
            with pytest.raises(NoRoom):
                conversation.add([message(item) for item in items], limit)
            assert conversation.version == before
            return
        conversation.add([message(item) for item in items], limit)
        model.act(view)
        model.unanswered = None
        self.note(conversation, model)

    @rule(data=st.data(), n=st.integers(1, 4))
    def rollback(self, data: st.DataObject, n: int) -> None:
        conversation, model = self.pick(data)
        starts = [place for place, ((kind, _), _) in enumerate(model.view) if kind == "u"]
        left = model.view[: starts[-min(n, len(starts))]] if starts else model.view
        last = conversation.rollback(n)
        model.act(left, bool(starts))
        again = [place for place, ((kind, _), _) in enumerate(left) if kind == "u"]
        assert list(last) == ([message(item) for item, _ in left[again[-1] :]] if again else [])
        self.note(conversation, model)

    @rule(data=st.data(), unpin=st.booleans(), places=st.lists(st.integers(-6, 6), max_size=3))
    def pin(self, data: st.DataObject, unpin: bool, places: list[int]) -> None:
        conversation, model = self.pick(data)
        change = conversation.unpin if unpin else conversation.pin
        size = len(model.view)
        if any(not -size <= place < size for place in places):
            with pytest.raises(NoIndex):
                change(*places)
            return
        change(*places)
        view = list(model.view)
        for place in places:
            view[place] = (view[place][0], not unpin)
        model.act(view, view != model.view)
        self.note(conversation, model)

    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        conversation, model = self.pick(data)
        version = data.draw(st.sampled_from(sorted(model.was)), "version")
        conversation.restore(version)
        model.act(model.was[version])
        self.note(conversation, model)

    @rule(data=st.data(), n=st.integers(1, 3))
    def undo(self, data: st.DataObject, n: int) -> None:
        conversation, model = self.pick(data)
        taken = conversation.undo(n)
        assert taken == min(n, model.step)
        self.step_to(conversation, model, -taken)

    @rule(data=st.data(), n=st.integers(1, 3))
    def redo(self, data: st.DataObject, n: int) -> None:
        conversation, model = self.pick(data)
        taken = conversation.redo(n)
        assert taken == min(n, len(model.steps) - 1 - model.step)
        self.step_to(conversation, model, taken)

    def step_to(self, conversation: Conversation, model: Model, steps: int) -> None:
        way = range(model.step, model.step + steps, 1 if steps > 0 else -1)
        model.step += steps
        model.view = model.steps[model.step]
        for back, place in enumerate(reversed(way)):  # each step is one version
            model.was[conversation.version - back] = model.steps[place + (1 if steps > 0 else -1)]
        self.note(conversation, model)

    # -- requests

    @rule(
        data=st.data(),
        kinds=st.sampled_from(["u", "u", "u", "", "su", "t", "uu"]),
        limit=st.none() | st.integers(1, 6),
    )
    def ask(self, data: st.DataObject, kinds: str, limit: int | None) -> None:
        conversation, model = self.pick(data)
        question = [self.item(kind) for kind in kinds]
        encoded = msg.encode_all([message(item) for item in question])
        spec = RequestSpec(question=encoded, model="m", limit=limit)
        behind = model.view[-1][0] if model.view and kinds[:1] in ("", "t") else None
        self.open_request(data, conversation, model, spec, Asked(question, [], behind, retry=False))

    @rule(data=st.data(), limit=st.none() | st.integers(1, 6))
    def retry(self, data: st.DataObject, limit: int | None) -> None:
        conversation, model = self.pick(data)
        ask = RequestSpec(question=[], model="m", limit=limit, retry=True)
        asked = self.asked_again(model)
        if asked is None:
            before = conversation.version
            with pytest.raises(Refused):
                conversation.store.transact(conversation.begin_job(Open(ask, lambda: None)))
            assert conversation.version == before
            return
        self.open_request(data, conversation, model, ask, asked)

    def asked_again(self, model: Model) -> Asked | None:
        """What a retry asks: the failed question, else the last one; None where there is nothing to ask."""
        view = [item for item, _ in model.view]
        if model.unanswered is not None and not model.unanswered.retry:
            question = [item for item in model.unanswered.question if item not in view]
            behind = view[-1] if view and (not question or question[0][0] == "t") else None
            return Asked(question, [], behind, retry=False)
        starts = [place for place, (kind, _) in enumerate(view) if kind == "u"]
        behind = view[starts[-1]] if starts else None
        answers = [item for item in view[starts[-1] + 1 if starts else 0 :] if item in self.question_of]
        question = self.question_of[answers[-1]] if answers else []
        if question and not any(item in view for item in question):  # truncation removed it
            behind = None
            later = [entry for entry in model.view if number(entry[0]) > number(question[-1])]
        elif starts:
            question, later = [], model.view[starts[-1] + 1 :]
        else:
            return None
        if any(pin and item[0] in "act" for item, pin in later):
            return None
        return Asked(question, [item for item, pin in later if not pin], behind, retry=True)

    def open_request(
        self, data: st.DataObject, conversation: Conversation, model: Model, ask: RequestSpec, asked: Asked
    ) -> None:
        opening = Open(ask, lambda: None)
        before = conversation.version
        asked_on = [entry for entry in model.view if entry[0] not in asked.leaving]
        whole = asked_on + [(item, False) for item in asked.question]
        sent = whole if ask.limit is None else cut(whole, ask.limit, len(asked.question) or last_unit(whole))
        if not whole or (ask.limit is not None and len(sent) > ask.limit):
            with pytest.raises((NoRoom, BadInput)):
                conversation.store.transact(conversation.begin_job(opening))
            assert conversation.version == before and opening.opened is None
            return
        conversation.store.transact(conversation.begin_job(opening))
        assert opening.opened is not None
        begun, encoded = opening.opened
        assert [msg.decode(raw) for raw in encoded] == [message(item) for item, _ in sent]
        self.note(conversation, model)
        of = asked.question
        if not any(kind == "u" for kind, _ in of):
            users = [item for item, _ in model.view if item[0] == "u"]
            of = self.question_of.get(users[-1], users[-1:]) if users else []
        self.question_of.update((item, of) for item in asked.question if item[0] == "u")
        model.open[begun.request] = Pending(begun, asked, ask.limit, of)
        if not data.draw(st.booleans(), "left open"):
            self.close(data, conversation, model, begun.request)

    @precondition(lambda self: any(model.open for model in self.models.values()))
    @rule(data=st.data())
    def close_any(self, data: st.DataObject) -> None:
        open_ = [(name, request) for name, model in self.models.items() for request in model.open]
        name, request = data.draw(st.sampled_from(open_), "request")
        self.close(data, data.draw(st.sampled_from(self.handles[name]), "handle"), self.models[name], request)

    def close(self, data: st.DataObject, conversation: Conversation, model: Model, request: int) -> None:
        pending = model.open.pop(request)
        begun, before = pending.begun, conversation.version
        end = data.draw(
            st.sampled_from(["answered", "stopped", "nothing", "failed", "kept", "dropped"]), "end"
        )
        answer = self.item(data.draw(st.sampled_from("aac"), "answer"))
        raw = msgspec.json.encode(message(answer))
        if end == "answered":
            conversation.store.transact(
                conversation.end_job(
                    request, lambda state: request_events.answered(begun, state, raw, ev.Answer())
                )
            )
        elif end == "stopped":
            conversation.store.transact(
                conversation.end_job(
                    request, lambda state: request_events.stopped(begun, state, raw, ev.Answer())
                )
            )
        elif end == "nothing":
            conversation.store.transact(
                conversation.end_job(
                    request, lambda state: request_events.stopped(begun, state, None, ev.Answer())
                )
            )
        elif end == "failed":
            fault = RequestError("Broken", "it broke")
            conversation.store.transact(
                conversation.end_job(
                    request, lambda state: request_events.failed(begun, raw, ev.Answer(), fault)
                )
            )
        else:  # the program ended; another one recovers the draft
            view = pending.answered(model.view, answer)
            self.recover(conversation, request, raw, keep=end == "kept", refused=view is None)
        if end in ("answered", "stopped", "kept"):
            view = pending.answered(model.view, answer)
            self.question_of[answer] = pending.of
            model.act(model.view if view is None else view, view is not None)
            model.unanswered = None
            self.check_last_events(conversation, before, end, joined=view is not None)
        else:
            model.unanswered = pending.asked
        self.note(conversation, model)

    def check_last_events(self, conversation: Conversation, before: int, end: str, joined: bool) -> None:
        events = [record.event for record in conversation.events(after=before)]
        (added,) = [event for event in events if isinstance(event, ev.MessageAdded)]
        assert added.joined == joined
        kinds = [event.type for event in events]
        assert kinds.count("request_stopped") == (end != "answered")
        assert joined or len(kinds) == 1 + (end != "answered")

    def recover(
        self, conversation: Conversation, request: int, partial: bytes, keep: bool, refused: bool
    ) -> None:
        store = conversation.store
        with store.reading() as reader:
            (draft,) = [draft for draft in reader.drafts(conversation.id) if draft.request == request]
        draft = draft._replace(partial=partial)
        store.transact(lambda tx: tx.renew_draft(draft))
        with pytest.raises(Refused) if keep and refused else nullcontext():
            (conversation.keep if keep else conversation.drop)(draft)
        with pytest.raises(Refused):
            conversation.keep(draft)

    # -- forks, restarts, caches

    @precondition(lambda self: len(self.models) < 5)
    @rule(data=st.data(), now=st.booleans())
    def fork(self, data: st.DataObject, now: bool) -> None:
        conversation, model = self.pick(data)
        version = conversation.version if now else data.draw(st.sampled_from(sorted(model.was)), "version")
        model.was.setdefault(version, model.view)
        twin = conversation.fork(at=None if now else version)
        last = max((at for at in model.was_unanswered if at <= version), default=version)
        self.know(twin, Model(model.was[version], 1, model.was_unanswered.get(last)))

    @rule()
    def restart(self) -> None:
        self.engine.close()
        self.engine = Engine(self.folder / "a.db", synchronous="OFF")
        for name in self.handles:
            self.handles[name] = [self.engine.open(name), self.engine.open(name)]

    @rule(keep_every=st.sampled_from([0, 2]))
    def lose_snapshots(self, keep_every: int) -> None:
        where = f"WHERE version % {keep_every} = 1" if keep_every else ""
        self.engine.store.transact(lambda tx: tx.sql.execute(f"DELETE FROM snapshots {where}"))

    @rule()
    def rebuild(self) -> None:
        before = [(line.id, line.version, line.messages) for line in self.engine.conversations()]
        self.engine.rebuild()
        assert sorted(
            (line.id, line.version, line.messages) for line in self.engine.conversations()
        ) == sorted(before)

    # -- invariants

    @invariant()
    def current_view_equals_the_model(self) -> None:
        for name, model in self.models.items():
            for conversation in self.handles[name][: 1 + len(self.models) % 2]:
                assert self.view_of(conversation) == [(message(item), pin) for item, pin in model.view]

    @rule(data=st.data())
    def earlier_view_equals_the_model(self, data: st.DataObject) -> None:
        conversation, model = self.pick(data)
        version = data.draw(st.sampled_from(sorted(model.was)), "version")
        was = [(message(item), pin) for item, pin in model.was[version]]
        assert self.view_of(conversation, version) == was

    def check_everything(self) -> None:
        report = self.engine.verify()
        assert report.ok, report
        listed = {line.id: line for line in self.engine.conversations()}
        for name, model in self.models.items():
            conversation = self.engine.open(name)
            assert listed[name].messages == len(model.view)
            assert listed[name].version == conversation.version
            for version, view in model.was.items():
                assert self.view_of(conversation, version) == [(message(item), pin) for item, pin in view]
            fold = dict(self.replayed(conversation))
            for version, view in model.was.items():
                assert len(fold[version]) == len(view)

    def replayed(self, conversation: Conversation) -> list[tuple[int, list[int]]]:
        """Return the ids at each version, folded from the first event without a snapshot."""
        stream = [(record.version, record.event) for record in conversation.events()]
        first = stream[0][1]
        inherited = None
        base = 0
        if isinstance(first, ev.Forked):
            parent = self.engine.open(first.parent)
            inherited = projection.View()
            inherited.ids = [held.id for held in parent.view_messages(first.version)]
            inherited.kinds = [msg.kind(held.message) for held in parent.view_messages(first.version)]
            inherited.pins = {held.id for held in parent.view_messages(first.version) if held.pinned}
            base = first.base
        return [(at, view.ids.copy()) for at, view in projection.replay(stream, base, inherited)]


Histories.TestCase.settings = settings(
    max_examples=settings().max_examples,  # of the profile: `--hypothesis-profile=thorough` tries harder
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
test_random_histories = Histories.TestCase
