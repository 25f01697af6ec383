"""The translation catalogues of the command: the texts of the source, the .po files and the .mo files.

`make words` runs this module. It collects the texts of the source and writes the template. It updates each
.po file (new texts get an empty translation, removed ones are dropped) and compiles it. It prints the texts
that have no translation.

Invariants: the same texts give the same bytes, so that a test can check that the catalogues are up to date.
"""

from __future__ import annotations

import ast
import re
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LOCALE = ROOT / "cli" / "locale"
TEMPLATE = LOCALE / "openai2.pot"

#: Constants of the engine whose texts the command translates with `_`.
CONSTANTS = {("openai2/redaction/redact.py", "REMAINS")}
#: The base of the errors whose first argument is a text; so is that of `kind`, a variable for such a class,
#: and of `lazy_message`.
ERROR = "Openai2Error"

#: The texts of click from release 8.3 on, with their plurals.
CLICK: tuple[str | tuple[str, str], ...] = (
    *("Usage:", "Options", "Commands", "Positional arguments", "Show this message and exit."),
    *("default: {default}", "env var: {var}", "required", "(dynamic)", "deprecated"),
    *("Missing command.", "Missing argument", "Missing option", "Missing parameter"),
    *("No such option {name!r}.", "No such option: {name}", "No such command {name!r}."),
    ("Did you mean {possibility}?", "(Did you mean one of: {possibilities}?)"),
    ("Did you mean {possibility}?", "(Possible options: {possibilities})"),
    ("Got unexpected extra argument ({args})", "Got unexpected extra arguments ({args})"),
    ("Takes {nargs} values but 1 was given.", "Takes {nargs} values but {len} were given."),
    ("Option {name!r} requires an argument.", "Option {name!r} requires {nargs} arguments."),
    *("Option {name!r} does not take a value.", "Argument {name!r} takes {nargs} values."),
    *("Invalid value: {message}", "Invalid value for {param_hint}: {message}"),
    "Choose from:\n\t{choices}",
    ("{value!r} is not {choice}.", "{value!r} is not one of {choices}."),
    *("{value} is not in the range {range}.", "{value!r} is not a valid {number_type}."),
    *("Could not open file {filename!r}: {message}", "unknown error", "file", "directory", "path"),
    *("{name} {filename!r} does not exist.", "{name} {filename!r} is a file."),
    *("{name} {filename!r} is a directory.", "{name} {filename!r} is not readable."),
    "{name} {filename!r} is not writable.",
    *("Error: {message}", "Error: invalid input", "Aborted!"),
)

#: The texts of the system and of libraries, and words that are facts of our errors.
ELSEWHERE = (
    *("No such file or directory", "Permission denied", "Operation not permitted", "Is a directory"),
    *("Not a directory", "File exists", "File name too long", "No space left on device"),
    *("Read-only file system", "Input/output error", "Too many open files"),
    *("Connection refused", "Connection error.", "All connection attempts failed"),
    *("the API key", "the weight", "the prompt", "the system message"),
    *("table", "index", "trigger", "view"),
    *("a line end", "a space", "a control character", "a character that is not ASCII"),
)

_HEAD = """\
Project-Id-Version: openai2
MIME-Version: 1.0
Content-Type: text/plain; charset=UTF-8
Content-Transfer-Encoding: 8bit
"""


class Text(NamedTuple):
    """A text of the source, its plural or None, and the files that show it."""

    one: str
    many: str | None
    files: tuple[str, ...]

    @property
    def key(self) -> str:
        """Its key in a .mo file."""
        return self.one if self.many is None else f"{self.one}\0{self.many}"


class Entry(NamedTuple):
    """A text of a .po file and its translations: one, or one for each plural form."""

    one: str
    many: str | None
    translations: tuple[str, ...]
    flags: tuple[str, ...] = ()


# -- the source


def collected() -> list[Text]:
    """Return the texts of the source, in the order of the files and of their lines."""
    trees = {
        path.relative_to(ROOT).as_posix(): ast.parse(path.read_text("utf-8"))
        for folder in ("cli", "openai2", "store")
        for path in sorted((ROOT / folder).rglob("*.py"))
    }
    errors = _errors(trees.values())
    found: dict[str, Text] = {}
    origins = [(name, _texts(name, tree, errors)) for name, tree in trees.items()]
    click = [(text, None) if isinstance(text, str) else text for text in CLICK]
    elsewhere = [(text, None) for text in ELSEWHERE]
    for name, texts in (*origins, ("click", click), ("elsewhere", elsewhere)):
        for one, many in texts:
            # gettext looks a plural up by its singular.
            had = found.get(one)
            files = () if had is None else had.files
            both = many if had is None or had.many is None else had.many
            found[one] = Text(one, both, (*files, name) if name not in files else files)
    return list(found.values())


def unknown() -> list[str]:
    """Return the calls whose text is not a literal: `_(variable)` and the like."""
    wrong: list[str] = []
    for path in sorted((ROOT / "cli").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("_", "counted"):
                places = node.args[: 2 if ast.unparse(node.func) == "counted" else 1]
                if any(not [*_strings(place, {})] for place in places):
                    wrong.append(f"{path.relative_to(ROOT).as_posix()}:{node.lineno}: {ast.unparse(node)}")
    return wrong


def _errors(trees: Iterable[ast.Module]) -> set[str]:
    """Return the names of all subclasses of ERROR."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    names, before = {ERROR}, 0
    while before < len(names):
        before = len(names)
        for node in classes:
            if any(ast.unparse(base).rpartition(".")[2] in names for base in node.bases):
                names.add(node.name)
    return names


def _texts(name: str, tree: ast.Module, errors: set[str]) -> Iterator[tuple[str, str | None]]:
    constants = _assigned(tree)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    for node in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        called = ast.unparse(node.func).rpartition(".")[2]
        first = list(_strings(node.args[0], constants))
        if called == "counted":
            yield from zip(first, _strings(node.args[1], constants), strict=True)
        elif called in ("_", "kind", "lazy_message") or called in errors:
            yield from ((text, None) for text in first)
    for file, constant in sorted(CONSTANTS):
        if file == name:
            yield from ((text, None) for node in constants[constant] for text in _strings(node, {}))


def _assigned(tree: ast.Module) -> dict[str, list[ast.expr]]:
    """Return the expressions that are assigned to each name of a module."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        for target in node.targets if isinstance(node, ast.Assign) else ():
            assert isinstance(node, ast.Assign)
            pairs = [(target, node.value)]
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                pairs = list(zip(target.elts, node.value.elts, strict=True))
            for name, value in pairs:
                if isinstance(name, ast.Name):
                    found.setdefault(name.id, []).append(value)
    return found


def _strings(node: ast.expr, constants: dict[str, list[ast.expr]]) -> Iterator[str]:
    """Yield the texts that an expression can be: a literal, an alternative, a tuple, or a constant."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        if node.value:
            yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _strings(node.body, constants)
        yield from _strings(node.orelse, constants)
    elif isinstance(node, ast.Tuple):
        for element in node.elts:
            yield from _strings(element, constants)
    elif isinstance(node, ast.Name) and node.id in constants:
        for value in constants[node.id]:
            yield from _strings(value, {})


def places(text: str) -> list[str]:
    """Return the `{named}` places of a text, sorted."""
    return sorted(re.findall(r"\{[^{}]*\}", text))


# -- .po files


def languages() -> list[str]:
    """Return the languages that have a folder."""
    return sorted(path.parent.parent.name for path in LOCALE.glob("*/LC_MESSAGES/openai2.po"))


def po(language: str) -> Path:
    """Return the path of the catalogue that people edit."""
    return LOCALE / language / "LC_MESSAGES" / "openai2.po"


def mo(language: str) -> Path:
    """Return the path of the compiled catalogue."""
    return po(language).with_suffix(".mo")


def read(path: Path) -> tuple[str, list[Entry]]:
    """Return the head of a .po file and its entries, without obsolete ones, which are comments."""
    entries: list[Entry] = []
    fields: dict[str, str] = {}
    flags: list[str] = []
    current = ""
    for line in (*path.read_text("utf-8").splitlines(), ""):
        line = line.strip()
        if not line and fields:
            translations = tuple(text for name, text in fields.items() if name.startswith("msgstr"))
            entries.append(Entry(fields["msgid"], fields.get("msgid_plural"), translations, tuple(flags)))
            fields, flags = {}, []
        elif line.startswith("#,"):
            flags += [flag.strip() for flag in line[2:].split(",")]
        elif line and not line.startswith("#"):
            word, quote, rest = line.partition('"')
            current = word.strip() or current
            fields[current] = fields.get(current, "") + ast.literal_eval(quote + rest)
    head = entries.pop(0)
    assert not head.one, f"{path} begins with its head"
    return head.translations[0], entries


def forms(head: str) -> int:
    """Return the number of plural forms, by the head of the catalogue."""
    match = re.search(r"nplurals=(\d+)", head)
    return int(match[1]) if match else 2


def updated(language: str, texts: list[Text]) -> str:
    """Return the .po file of a language for these texts; translations are kept."""
    head, entries = read(po(language))
    had = {entry.one: entry for entry in entries}
    lines = [*_entry("", None, (head,))]
    for text in texts:
        old = had.get(text.one)
        count = 1 if text.many is None else forms(head)
        translations = (
            old.translations if old is not None and (old.many is None) == (text.many is None) else ()
        )
        # A text that gained or lost a plural keeps its first translation.
        if old is not None and not translations:
            translations = old.translations[:1]
        translations = (*translations, *[""] * count)[:count]
        flags = old.flags if old is not None else ()
        lines += ["", *_comments(text, flags), *_entry(text.one, text.many, translations)]
    return "\n".join(lines) + "\n"


def template(texts: list[Text]) -> str:
    """Return the template: all texts without translations."""
    lines = [*_entry("", None, (_HEAD,))]
    for text in texts:
        translations = ("",) if text.many is None else ("", "")
        lines += ["", *_comments(text, ()), *_entry(text.one, text.many, translations)]
    return "\n".join(lines) + "\n"


def _comments(text: Text, flags: tuple[str, ...]) -> Iterator[str]:
    yield f"#: {' '.join(text.files)}"
    if flags:
        yield f"#, {', '.join(flags)}"


def _entry(one: str, many: str | None, translations: tuple[str, ...]) -> Iterator[str]:
    yield from _field("msgid", one)
    if many is None:
        yield from _field("msgstr", translations[0])
    else:
        yield from _field("msgid_plural", many)
        for number, text in enumerate(translations):
            yield from _field(f"msgstr[{number}]", text)


def _field(name: str, text: str) -> Iterator[str]:
    lines = text.splitlines(keepends=True)
    if len(lines) < 2:
        yield f"{name} {_quoted(text)}"
        return
    yield f'{name} ""'
    for line in lines:
        yield _quoted(line)


def _quoted(text: str) -> str:
    for char, escape in (("\\", r"\\"), ('"', r"\""), ("\n", r"\n"), ("\t", r"\t")):
        text = text.replace(char, escape)
    return f'"{text}"'


# -- .mo files


def compiled(path: Path) -> bytes:
    """Return the .mo file for a .po file, in the format of `gettext` of the standard library."""
    head, entries = read(path)
    translations = {"": head}
    for entry in entries:
        if all(entry.translations) and "fuzzy" not in entry.flags:
            translations[Text(entry.one, entry.many, ()).key] = "\0".join(entry.translations)
    pairs = sorted((one.encode(), other.encode()) for one, other in translations.items())
    count, start = len(pairs), 28
    offset = start + 16 * count
    tables: tuple[list[int], list[int]] = ([], [])
    data = b""
    for side in (0, 1):
        for pair in pairs:
            tables[side].extend((len(pair[side]), offset + len(data)))
            data += pair[side] + b"\0"
    header = struct.pack("<7I", 0x950412DE, 0, count, start, start + 8 * count, 0, offset)
    return header + struct.pack(f"<{4 * count}I", *tables[0], *tables[1]) + data


def missing(path: Path) -> list[str]:
    """Return the texts of a .po file that have no translation, or a fuzzy one."""
    _head, entries = read(path)
    return [entry.one for entry in entries if not all(entry.translations) or "fuzzy" in entry.flags]


def main() -> int:
    """Write all catalogues; return 1 if a translation is missing."""
    texts = collected()
    TEMPLATE.write_text(template(texts), "utf-8", newline="\n")
    left = 0
    for language in languages():
        po(language).write_text(updated(language, texts), "utf-8", newline="\n")
        mo(language).write_bytes(compiled(po(language)))
        for text in missing(po(language)):
            print(f"{po(language).relative_to(ROOT)}: not translated: {text!r}")
            left += 1
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
