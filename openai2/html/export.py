"""Export conversations with their families as one self-contained HTML page.

The page requests nothing from a network. Its script, the joined modules `SCRIPTS`, reads blocks of JSON:

- `rows`: for each event its type, time and data, the kind and size of its message, and its change of the view
  (`change`: where ids were removed and added; `pins`: ids that were pinned and unpinned). Some rows have a
  `frame`, the complete view after the event, so that any event is a bounded number of rows away;
- `texts`: the messages and other long data, parsed when they are shown;
- `about`: the streams with their parents and heads, and the first text of each block.

Invariants:
- Only this module folds views (by `core.projection`); the script applies changes.
- Events are streamed: each is in memory once. The same events give the same bytes.
- No content can become markup or script: JSON has `<`, `>` and `&` escaped, and the content security policy
  allows the page's own style and script, by their hashes, and nothing else.
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
from openai2.archive.atomic_file import File, atomic_write
from openai2.archive.format import Exported, Progress
from openai2.core import events as ev
from openai2.core import messages as msg
from openai2.core.projection import View
from openai2.core.snapshot import pack, unpack
from openai2.errors import UnknownConversation
from openai2.history.views import VIEW_TYPES
from openai2.store import Reader, Store

#: The modules of the page's script, in the order in which they are joined.
SCRIPTS = ("words", "model", "markdown", "lists", "view", "search", "main")
#: Bytes of a block of texts: the script parses a whole block to show one of its texts.
BLOCK_BYTES = 128 * 1024
#: Rows in a block of rows.
BLOCK_ROWS = 1000
#: The least number of events between two frames.
FRAME_INTERVAL = 512
#: Bytes of data up to which a row carries them itself; longer data are a text.
ROW_BYTES = 2048

#: Stretches (place, removed ids, added ids), to be applied in this order.
Change = list[tuple[int, list[int], list[int]]]


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation of the page. *needed*: versions whose views are used by a restore or by a fork."""

    id: str
    name: str | None
    archived: bool
    events: int
    fork: ev.Forked | None
    needed: frozenset[int]


def export(store: Store, ids: Iterable[str] | None, file: File, progress: Progress | None = None) -> Exported:
    """Write the page of these conversations (None: all), and of their families, to *file*.

    The page opens with the first of *ids*. A path is written completely or not at all.
    Raises UnknownConversation, DamagedStore, or BadInput if the file cannot be written.
    """
    with store.reading(snapshot=True) as reader, atomic_write(file) as out:
        chosen = None if ids is None else list(ids)
        streams, opened = _read_families(reader, chosen)
        template, style, script = _resource("page.html"), _resource("page.css"), _script()
        title = next((stream.name or stream.id for stream in streams if stream.id == opened), "openai2")
        head, tail = template.split("{{data}}")
        fill = {
            "{{title}}": escape(visible(title)),
            "{{generator}}": f"openai2 {__version__}",
            "{{policy}}": _policy(style, script),
            "{{style}}": style,
            "{{script}}": script,
        }
        out.write(_fill_in(head, fill).encode())
        for block in _Blocks(reader, streams, opened, progress).write():
            out.write(block.encode())
        out.write(_fill_in(tail, fill).encode())
        return Exported(
            conversations=len(streams),
            events=sum(stream.events for stream in streams),
            added=[] if chosen is None else sorted({stream.id for stream in streams} - set(chosen)),
        )


def _read_families(reader: Reader, ids: list[str] | None) -> tuple[list[Stream], str | None]:
    """Return the streams of all relatives, parents before their forks, and the id of the one to open."""
    firsts = {record.conversation: record for record in reader.events_of_types(("created", "forked"))}
    forks = {id: event for id, first in firsts.items() if isinstance(event := first.event, ev.Forked)}
    for id in ids or ():
        if id not in firsts:
            raise UnknownConversation("there is no conversation {reference}", reference=id)
    needed: dict[str, set[int]] = {}
    for fork in forks.values():
        needed.setdefault(fork.parent, set()).add(fork.version)
    for record in reader.events_of_types(("restored",)):
        event = record.event
        assert isinstance(event, ev.Restored)
        needed.setdefault(record.conversation, set()).add(event.version)

    def stream(id: str) -> Stream:
        listed = reader.conversation(id)
        return Stream(
            id=id,
            name=listed.name if listed else None,
            archived=listed.archived if listed else False,
            events=reader.head(id)[0],
            fork=forks.get(id),
            needed=frozenset(needed.get(id, ())),
        )

    order = _sort_families(firsts, forks, ids)
    latest = max(order, key=lambda id: (firsts[id].time, id), default=None)
    return [stream(id) for id in order], ids[0] if ids else latest


def _sort_families(
    firsts: dict[str, ev.Recorded], forks: dict[str, ev.Forked], ids: list[str] | None
) -> list[str]:
    """Return the ids of complete families: parents before forks, otherwise by the time of the first event."""

    def root(id: str) -> str:
        while id in forks:
            id = forks[id].parent
        return id

    children: dict[str, list[str]] = {}
    for id, fork in forks.items():
        children.setdefault(fork.parent, []).append(id)
    ready = [(firsts[id].time, id) for id in {root(id) for id in (firsts if ids is None else ids)}]
    heapq.heapify(ready)
    order: list[str] = []
    while ready:
        _, id = heapq.heappop(ready)
        order.append(id)
        for child in children.get(id, ()):
            heapq.heappush(ready, (firsts[child].time, child))
    return order


# -- the file


def _resource(name: str) -> str:
    return files("openai2.html").joinpath(name).read_text("utf-8")


def _script() -> str:
    """Return the modules as one script; a function around them keeps their names off the page."""
    modules = "".join(_resource(f"{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{modules}}})();\n'


def _fill_in(text: str, fill: dict[str, str]) -> str:
    return re.sub(r"\{\{\w+\}\}", lambda match: fill[match[0]], text)


def _policy(style: str, script: str) -> str:
    """Return a content security policy that allows this style, this script and embedded pictures only."""
    style_hash, script_hash = (b64encode(sha256(text.encode()).digest()).decode() for text in (style, script))
    return (
        f"default-src 'none'; script-src 'sha256-{script_hash}'; style-src 'sha256-{style_hash}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


_INVISIBLE = re.compile("[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def visible(text: str) -> str:
    """Return *text* with control and bidirectional formatting characters replaced by their code points."""
    return _INVISIBLE.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_ESCAPED = re.compile("[<>&\u2028\u2029]")
_encode = msgspec.json.Encoder(order="deterministic").encode
_encode_sorted = msgspec.json.Encoder(order="sorted").encode


def _block(kind: str, value: Any) -> str:
    """Return a data element, which browsers do not run. In JSON, only strings have characters to escape."""
    json = _encode(value).decode()
    if _ESCAPED.search(json):
        json = json.translate(_ESCAPES)
    return f'<script type="application/json" class="{kind}">{json}</script>\n'


class _Blocks:
    """The writer of the blocks of data."""

    def __init__(
        self, reader: Reader, streams: Sequence[Stream], opened: str | None, progress: Progress | None
    ) -> None:
        self._reader = reader
        self._streams = streams
        self._opened = opened
        self._progress = progress
        self._places = {stream.id: place for place, stream in enumerate(streams)}
        self._total = sum(stream.events for stream in streams)
        self._done = 0
        self._about: list[dict[str, Any]] = []
        self._views: dict[tuple[str, int], bytes] = {}  # packed, by conversation and version
        self._questions: dict[bytes, int] = {}
        self._texts: list[Any] = []  # of the block that is being filled
        self._size = 0
        self._starts: list[list[int]] = []

    def write(self) -> Iterator[str]:
        """Yield the blocks."""
        for place, stream in enumerate(self._streams):
            yield from self._write_stream(place, stream)
        yield from self._flush_texts()
        opened = self._places.get(self._opened or "", 0)
        yield _block("about", {"opened": opened, "streams": self._about, "texts": self._starts})

    def _write_stream(self, place: int, stream: Stream) -> Iterator[str]:
        fork = stream.fork
        parent = None if fork is None else self._places[fork.parent]
        base = 0 if fork is None or parent is None else self._about[parent]["base"] + fork.version
        start = View() if fork is None else unpack(self._views[fork.parent, fork.version])
        fold = _Fold(start, base, stream.needed)
        rows: list[dict[str, Any]] = []
        head = ""
        for record in self._reader.events(stream.id):
            rows.append({**self._row(place, record), **fold.apply(record)})
            head = record.hash
            self._done += 1
            if len(rows) == BLOCK_ROWS:
                yield self._rows_block(place, rows)
                rows = []
            if self._size >= BLOCK_BYTES:
                yield from self._flush_texts()
        if rows:
            yield self._rows_block(place, rows)
        self._views.update({(stream.id, version): view for version, view in fold.saved.items()})
        self._about.append(
            {
                "id": stream.id,
                "name": stream.name,
                "archived": stream.archived,
                "base": base,
                "parent": parent,
                "forked": None if fork is None else fork.version,
                "head": head,
            }
        )

    def _rows_block(self, place: int, rows: list[dict[str, Any]]) -> str:
        if self._progress is not None:
            self._progress(self._done, self._total)
        return _block("rows", {"stream": place, "rows": rows})

    def _row(self, place: int, record: ev.Recorded) -> dict[str, Any]:
        """Return the row of an event without its change of the view; add what is long to the texts."""
        row: dict[str, Any] = {"type": record.type, "time": record.time}
        event, data = record.event, record.data
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
                row["asks"] = self._question_number(raw)
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
        if len(_encode(data)) > ROW_BYTES:
            text["data"] = data
        elif data:
            row["data"] = data
        if text:
            self._add_text(place, record.version, text)
        return row

    def _question_number(self, raw: bytes) -> int:
        """Return a number that is the same for the same question; the script aligns branches by it."""
        key = sha256(_encode_sorted(msg.decode(raw))).digest()
        return self._questions.setdefault(key, len(self._questions))

    def _add_text(self, place: int, version: int, text: dict[str, Any]) -> None:
        encoded = _encode(text)
        if not self._texts:
            self._starts.append([place, version])
        self._texts.append([place, version, msgspec.Raw(encoded)])
        self._size += len(encoded)

    def _flush_texts(self) -> Iterator[str]:
        if self._texts:
            yield _block("texts", self._texts)
            self._texts = []
            self._size = 0


# -- changes of the view


class _Fold:
    """The fold of one stream: applies events and reports what each one changed.

    *saved*: the packed views of the *needed* versions.
    """

    def __init__(self, view: View, base: int, needed: frozenset[int]) -> None:
        self.saved: dict[int, bytes] = {}
        self._view = view
        self._base = base
        self._needed = needed
        self._ids, self._pins = view.ids.copy(), view.pins.copy()  # before the event
        self._since_frame = 0

    def apply(self, record: ev.Recorded) -> dict[str, Any]:
        """Apply the next event and return its row's `change`, `pins` and `frame`, if it has them.

        Raises KeyError if a restored version was not saved.
        """
        row: dict[str, Any] = {}
        if record.type in VIEW_TYPES and record.type != "forked":
            self._view.apply(record.event, self._base + record.version, self._saved_view)
            if change := self._change(record.type):
                row["change"] = change
            if self._view.pins != self._pins:
                row["pins"] = (sorted(self._view.pins - self._pins), sorted(self._pins - self._view.pins))
                self._pins = self._view.pins.copy()
        if record.version in self._needed:
            self.saved[record.version] = pack(self._view)
        self._since_frame += 1
        if self._since_frame >= max(FRAME_INTERVAL, len(self._ids)):
            row["frame"] = {"ids": self._ids.copy(), "pins": sorted(self._pins)}
            self._since_frame = 0
        return row

    def _saved_view(self, version: int) -> View:
        return unpack(self.saved[version])

    def _change(self, tag: str) -> Change:
        before, after = self._ids, self._view.ids
        if tag == "message_added" and after[: len(before)] == before:  # it appends: no need to compare more
            added = after[len(before) :]
            change: Change = [(len(before), [], added)] if added else []
            before.extend(added)
            return change
        self._ids = after.copy()
        return changes(before, after)


def changes(before: list[int], after: list[int]) -> Change:
    """Return the stretches that turn *before* into *after*."""
    if before == after:
        return []
    start, end = 0, 0
    shorter = min(len(before), len(after))
    while start < shorter and before[start] == after[start]:
        start += 1
    while end < shorter - start and before[-1 - end] == after[-1 - end]:
        end += 1
    old, new = before[start : len(before) - end], after[start : len(after) - end]
    staying = set(new)
    if len(staying) == len(new) and [id for id in old if id in staying] == new:
        return _removals(old, staying, start)
    return [(start, old, new)]


def _removals(old: list[int], staying: set[int], place: int) -> Change:
    """Return the stretches that remove all but *staying* from *old*, which begins at *place*."""
    change: Change = []
    run: list[int] = []
    for id in old:
        if id not in staying:
            run.append(id)
            continue
        if run:
            change.append((place, run, []))
            run = []
        place += 1
    return [*change, (place, run, [])] if run else change
