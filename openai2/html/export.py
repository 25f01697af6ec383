"""The page: conversations with their families as one HTML file, to be looked at in a browser.

The file holds all that it needs and asks no network for anything. What is written here is told to
`page.js` in blocks of JSON:

- a row an event: its type, time and data, the kind and size of its message, and what it changed in the view
  (`change`: which ids left and came, and where; `pins`: which were pinned and unpinned);
- `frame`, now and then in a row: the whole view after it, so that any event is a bounded number of rows away;
- texts, the messages themselves, in blocks that are read when they are looked at.

Rules: a view is folded here (`projection`) and nowhere else, the page only applies changes. Everything is
streamed, an event is in memory once. The same events give the same bytes. Nothing of a conversation can
become markup or script: inside JSON `<`, `>` and `&` are escaped, and a content security policy
lets the page's own script and style in, by their hashes, and nothing else.
"""

from __future__ import annotations

import heapq
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

import msgspec

from openai2 import __version__
from openai2.archive.atomic_file import File, written
from openai2.archive.format import Exported, Progress
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import View, pack, unpack
from openai2.errors import UnknownConversation
from openai2.history.views import VIEW_TYPES
from openai2.store import Reader, Store

#: Bytes of a block of texts, about: what is read at once when one of them is looked at.
BLOCK = 128 * 1024
#: Rows in a block of rows.
ROWS = 1000
#: Events between two frames, at least.
FRAMES = 512
#: Bytes of data that a row carries itself; more of it goes to the texts.
SHORT = 2048

#: The modules of the page's script, in the order in which they are joined into one function.
SCRIPTS = ("words", "model", "markdown", "view", "search", "main")

Change = list[tuple[int, list[int], list[int]]]


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation that goes on the page; *records* reads its events once.

    *fork* is how it begins, where it is a fork; *wanted* are the versions whose views are needed again,
    by events of its own (`restored`) and by its forks.
    """

    id: str
    name: str | None
    records: Iterable[ev.Recorded]
    fork: ev.Forked | None = None
    wanted: frozenset[int] = frozenset()
    archived: bool = False
    events: int = 0


# -- from the log


def export(store: Store, ids: Iterable[str] | None, file: File, progress: Progress | None = None) -> Exported:
    """Write the page of the conversations with these *ids* (None: all), and of their families, to *file*.

    The first of them is what the page opens with. A path is written whole or not at all. Raises
    UnknownConversation, DamagedStore, BadInput where the file cannot be written.
    """
    with store.reading(still=True) as reader, written(file) as out:
        chosen = None if ids is None else list(ids)
        streams, opened = _families(reader, chosen)
        for piece in page(streams, opened, progress):
            out.write(piece.encode())
        return Exported(
            conversations=len(streams),
            events=sum(stream.events for stream in streams),
            added=[] if chosen is None else sorted({stream.id for stream in streams} - set(chosen)),
        )


def _families(reader: Reader, ids: list[str] | None) -> tuple[list[Stream], str | None]:
    """The streams of all relatives, parents before their forks, and the one to open."""
    firsts = {record.conversation: record for record in reader.events_of_types(("created", "forked"))}
    forks = {name: event for name, first in firsts.items() if isinstance(event := first.event, ev.Forked)}
    for name in ids or ():
        if name not in firsts:
            raise UnknownConversation("there is no conversation {reference}", reference=name)
    wanted: dict[str, set[int]] = {}
    for fork in forks.values():
        wanted.setdefault(fork.parent, set()).add(fork.version)
    for record in reader.events_of_types(("restored",)):
        event = record.event
        assert isinstance(event, ev.Restored)
        wanted.setdefault(record.conversation, set()).add(event.version)

    def stream(name: str) -> Stream:
        listed = reader.conversation(name)
        return Stream(
            id=name,
            name=listed.name if listed else None,
            archived=listed.archived if listed else False,
            records=_Records(reader, name),
            fork=forks.get(name),
            wanted=frozenset(wanted.get(name, ())),
            events=reader.head(name)[0],
        )

    order = _in_order(firsts, forks, ids)
    latest = max(order, key=lambda name: (firsts[name].time, name), default=None)
    return [stream(name) for name in order], ids[0] if ids else latest


def _in_order(
    firsts: dict[str, ev.Recorded], forks: dict[str, ev.Forked], ids: list[str] | None
) -> list[str]:
    """Whole families, each parent before its forks, else in the order in which they began."""

    def root(name: str) -> str:
        while name in forks:
            name = forks[name].parent
        return name

    roots = {root(name) for name in (firsts if ids is None else ids)}
    children: dict[str, list[str]] = {}
    for name, fork in forks.items():
        children.setdefault(fork.parent, []).append(name)
    ready = [(firsts[name].time, name) for name in roots]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        _, name = heapq.heappop(ready)
        order.append(name)
        for child in children.get(name, ()):
            heapq.heappush(ready, (firsts[child].time, child))
    return order


class _Records:
    """The events of a stream, read when they are asked for."""

    def __init__(self, reader: Reader, conversation: str) -> None:
        self._reader = reader
        self._conversation = conversation

    def __iter__(self) -> Iterator[ev.Recorded]:
        return self._reader.events(self._conversation)


# -- the page


def page(
    streams: Sequence[Stream], opened: str | None = None, progress: Progress | None = None
) -> Iterator[str]:
    """The page, piece by piece. *streams* are whole families, parents first; it opens with *opened*."""
    template, style, script = _resource("page.html"), _resource("page.css"), _script()
    title = next((stream.name or stream.id for stream in streams if stream.id == opened), "openai2")
    head, rest = template.split("{{data}}")
    fill = {
        "{{title}}": escape(visible(title)),
        "{{generator}}": f"openai2 {__version__}",
        "{{policy}}": _policy(style, script),
        "{{style}}": style,
        "{{script}}": script,
    }
    yield _filled(head, fill)
    yield from _Blocks(streams, opened, progress or _nobody).write()
    yield _filled(rest, fill)


def _nobody(done: int, total: int) -> None:
    """Progress that nobody watches."""


def _script() -> str:
    modules = "".join(_resource(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{modules}}})();\n'


def _resource(name: str) -> str:
    return files("openai2.html").joinpath(name).read_text("utf-8")


def _filled(text: str, fill: dict[str, str]) -> str:
    return re.sub(r"\{\{\w+\}\}", lambda match: fill[match[0]], text)


def _policy(style: str, script: str) -> str:
    """The content security policy: this style, this script, pictures that are in the page; nothing else."""
    style_hash, script_hash = (b64encode(sha256(text.encode()).digest()).decode() for text in (style, script))
    return (
        f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def visible(text: str) -> str:
    """*text* with control characters, and those that turn the direction of writing, told by their number."""
    return _UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_ESCAPED = re.compile("[<>&\u2028\u2029]")


def escaped(json: str) -> str:
    """JSON in which nothing can end or begin an element: these characters occur in its strings alone."""
    return json.translate(_ESCAPES) if _ESCAPED.search(json) else json


_encode = msgspec.json.Encoder(order="deterministic").encode
_sorted = msgspec.json.Encoder(order="sorted").encode


def _block(kind: str, value: Any) -> str:
    """An element of data, which no browser runs."""
    return f'<script type="application/json" class="{kind}">{escaped(_encode(value).decode())}</script>\n'


class _Blocks:
    def __init__(self, streams: Sequence[Stream], opened: str | None, progress: Progress) -> None:
        self._streams = streams
        self._opened = opened
        self._progress = progress
        self._places = {stream.id: place for place, stream in enumerate(streams)}
        self._total = sum(stream.events for stream in streams)
        self._done = 0
        self._bases: dict[str, int] = {}
        self._kept: dict[tuple[str, int], bytes] = {}
        self._questions: dict[bytes, int] = {}
        self._texts: list[Any] = []
        self._size = 0
        self._count = 0
        self._starts: list[list[int]] = []
        self._heads: list[str] = []

    def write(self) -> Iterator[str]:
        """Every stream's rows and texts, and then what there is of both."""
        for place, stream in enumerate(self._streams):
            yield from self._stream(place, stream)
        yield from self._flush()
        about = [
            {
                "id": stream.id,
                "name": stream.name,
                "archived": stream.archived,
                "base": self._bases[stream.id],
                "parent": None if stream.fork is None else self._places[stream.fork.parent],
                "forked": None if stream.fork is None else stream.fork.version,
                "head": head,
            }
            for stream, head in zip(self._streams, self._heads, strict=True)
        ]
        opened = self._places.get(self._opened or "", 0)
        yield _block("about", {"opened": opened, "streams": about, "texts": self._starts})

    def _stream(self, place: int, stream: Stream) -> Iterator[str]:
        parent = stream.fork
        base = 0 if parent is None else self._bases[parent.parent] + parent.version
        self._bases[stream.id] = base
        fold = _Fold(base, stream.wanted)
        if parent is not None:
            fold.begin(self._kept[parent.parent, parent.version])
        rows: list[dict[str, Any]] = []
        head = ""
        for record in stream.records:
            row = self._row(place, record)
            row.update(fold.enter(record))
            rows.append(row)
            head = record.hash
            self._done += 1
            if len(rows) == ROWS:
                yield _block("rows", {"stream": place, "rows": rows})
                rows = []
                self._progress(self._done, self._total)
            if self._size >= BLOCK:
                yield from self._flush()
        if rows:
            yield _block("rows", {"stream": place, "rows": rows})
        self._progress(self._done, self._total)
        self._heads.append(head)
        self._kept.update({(stream.id, version): packed for version, packed in fold.kept.items()})

    def _row(self, place: int, record: ev.Recorded) -> dict[str, Any]:
        """What a row tells of the event itself; what is long goes to the texts."""
        row: dict[str, Any] = {"type": record.type, "time": record.time}
        event = record.event
        data = record.data
        text: dict[str, Any] = {}
        if not record.json:
            row["redacted"] = True
        if isinstance(event, ev.MessageAdded):
            raw = bytes(event.message)
            text["message"] = event.message
            del data["message"]
            row["kind"] = kind = msg.kind_of(raw)
            row["size"] = len(raw)
            if kind == msg.USER and record.json:
                row["asks"] = self._question(raw)
            answer = data.get("answer", {})
            answer.pop("logprobs", None)
            text.update({name: answer.pop(name) for name in ("choices", "reasoning") if name in answer})
        elif isinstance(event, ev.RequestFailed) and event.partial is not None:
            text["partial"] = event.partial
            del data["partial"]
        elif isinstance(event, ev.RequestStopped) and "reasoning" in data:
            text["reasoning"] = data.pop("reasoning")
        elif isinstance(event, ev.Redacted):
            del data["left"]
        if len(_encode(data)) > SHORT:
            text["data"] = data
        elif data:
            row["data"] = data
        if text:
            self._keep(place, record.version, text)
        return row

    def _question(self, raw: bytes) -> int:
        """A number for a question's words, the same for the same words: branches are aligned by it."""
        key = sha256(_sorted(msg.decode(raw))).digest()
        return self._questions.setdefault(key, len(self._questions))

    def _keep(self, place: int, version: int, text: dict[str, Any]) -> None:
        encoded = _encode(text)
        if not self._texts:
            self._starts.append([place, version])
        self._texts.append([place, version, msgspec.Raw(encoded)])
        self._size += len(encoded)

    def _flush(self) -> Iterator[str]:
        if self._texts:
            yield _block("texts", self._texts)
            self._texts = []
            self._size = 0


class _Fold:
    """A stream while it is folded: the view, and what each event changed in it. *kept*: views, packed."""

    def __init__(self, base: int, wanted: frozenset[int]) -> None:
        self.kept: dict[int, bytes] = {}
        self._base = base
        self._wanted = wanted
        self._view = View()
        self._ids: list[int] = []
        self._pins: set[int] = set()
        self._since = 0

    def begin(self, packed: bytes) -> None:
        """It is a fork, which begins with this view."""
        self._view = unpack(packed)
        self._ids, self._pins = self._view.ids.copy(), self._view.pins.copy()

    def enter(self, record: ev.Recorded) -> dict[str, Any]:
        """Fold the next event; what its row tells of it. Raises KeyError for a view that was not kept."""
        told: dict[str, Any] = {}
        if record.type in VIEW_TYPES and record.type != "forked":
            self._view.apply(record.event, self._base + record.version, self._earlier)
            if change := self._change(record.type):
                told["change"] = change
            if self._view.pins != self._pins:
                came, left = self._view.pins - self._pins, self._pins - self._view.pins
                told["pins"] = (sorted(came), sorted(left))
                self._pins = self._view.pins.copy()
        if record.version in self._wanted:
            self.kept[record.version] = pack(self._view)
        self._since += 1
        if self._since >= max(FRAMES, len(self._ids)):
            told["frame"] = {"ids": self._ids.copy(), "pins": sorted(self._pins)}
            self._since = 0
        return told

    def _earlier(self, version: int) -> View:
        return unpack(self.kept[version])

    def _change(self, tag: str) -> Change:
        before, after = self._ids, self._view.ids
        if tag == "message_added":  # which adds at the end, whatever it adds
            added = after[len(before) :]
            change: Change = [(len(before), [], added)] if added else []
            before.extend(added)
            return change
        if before == after:
            return []
        self._ids = after.copy()
        return changes(before, after)


def changes(before: list[int], after: list[int]) -> Change:
    """The stretches (place, what left, what came) that, one after the other, make *after* of *before*."""
    start, end = 0, 0
    shorter = min(len(before), len(after))
    while start < shorter and before[start] == after[start]:
        start += 1
    while end < shorter - start and before[-1 - end] == after[-1 - end]:
        end += 1
    left, came = before[start : len(before) - end], after[start : len(after) - end]
    staying = set(came)
    if len(staying) == len(came) and [one for one in left if one in staying] == came:
        return _only_left(left, staying, start)
    return [(start, left, came)]


def _only_left(left: list[int], staying: set[int], start: int) -> Change:
    """The changes where some of *left*, which stand from *start* on, left and nothing came."""
    found: Change = []
    place = start
    run: list[int] = []
    for one in left:
        if one not in staying:
            run.append(one)
            continue
        if run:
            found.append((place, run, []))
            run = []
        place += 1
    return [*found, (place, run, [])] if run else found
