"""The page as a file: its content cannot become markup, its policy, its script and its words."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

import pytest

from openai2 import Engine
from openai2.core import events as ev
from openai2.html.export import SCRIPTS
from tests.support.page import read_page

NASTY = (
    "</script><script>alert(1)</script><!--<script>",
    "<img src=x onerror=alert(1)>",
    "]]>&lt;&#x3c;script>",
    "\u2028\u2029\u202e\x00\x07\x1b[31m",
    "{{script}}{{policy}}{{data}}",
    "\\u003c\\",
)


def source(name: str) -> str:
    return files("openai2.html").joinpath(name).read_text("utf-8")


SCRIPT = "".join(source(f"{name}.js") for name in SCRIPTS)


@pytest.mark.parametrize("text", NASTY)
def test_message_never_becomes_markup(engine: Engine, text: str) -> None:
    plain = read_page(engine).tags
    conversation = engine.create("a")
    message = {"role": "user", "content": text, "name": text, text: [text]}
    conversation.add([message])
    conversation.set_role(text, text)
    page = read_page(engine)
    assert page.texts() == {(0, 2): {"message": message}}
    assert page.rows(0)[2]["data"] == {"name": text, "description": text}
    assert sorted(page.tags) == sorted([*plain, "script", "script"]), "one for texts and one for rows"
    data = "".join(block for kind in ("rows", "texts", "about") for block in page.blocks[kind])
    assert not re.search("[<>&\u2028\u2029]", data)


@pytest.mark.parametrize("name", ["</title><script>alert(1)</script>", "a\u202eb", "{{script}}"])
def test_name_never_becomes_markup(engine: Engine, name: str) -> None:
    plain = read_page(engine).tags
    engine.create(name)
    page = read_page(engine, name)
    assert sorted(page.tags) == sorted([*plain, "script"])
    assert page.title == name.replace("\u202e", "⟨U+202E⟩")
    assert page.about["streams"][0]["name"] == name


def test_policy_allows_own_style_and_script_only(engine: Engine) -> None:
    page = read_page(engine)

    def digest(text: str) -> str:
        return b64encode(sha256(text.encode()).digest()).decode()

    assert page.policy == (
        f"default-src 'none'; script-src 'sha256-{digest(page.blocks['script'][0])}';"
        f" style-src 'sha256-{digest(page.blocks['style'][0])}';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )
    assert len(page.blocks["script"]) == len(page.blocks["style"]) == 1


def test_script_neither_parses_markup_nor_uses_network() -> None:
    forbidden = (
        "innerHTML outerHTML insertAdjacentHTML document.write DOMParser eval( Function( setAttribute('on"
        " fetch( XMLHttpRequest WebSocket sendBeacon EventSource import( replaceAll"
    )
    assert not [word for word in forbidden.split() if word in SCRIPT]
    style = source("page.css")
    assert not re.search(r"""(src|href)=["']?https?:""", source("page.html") + style)
    assert "url(" not in style and "@import" not in style
    assert "</script" not in SCRIPT.lower() and "</style" not in style.lower()


def test_model_uses_no_dom() -> None:
    assert not re.search(r"\b(document|window|navigator|\$\(|el\(|t\()", source("model.js"))


def test_every_module_is_joined() -> None:
    modules = {file.name for file in files("openai2.html").iterdir() if file.name.endswith(".js")}
    assert modules == {f"{name}.js" for name in SCRIPTS}


def test_every_text_has_both_languages_and_a_use() -> None:
    table = re.search(r"const WORDS = \{\n(.*?)\n\};", SCRIPT, re.DOTALL)
    assert table
    entries = re.findall(r'(\w+): \[("(?:[^"\\]|\\.)*"), ("(?:[^"\\]|\\.)*")\]', table[1])
    words = {key: (json.loads(english), json.loads(chinese)) for key, english, chinese in entries}
    assert all(english and chinese for english, chinese in words.values())
    used = set(re.findall(r'\bt\((?:[^()"`]*\? )?"(\w+)"', SCRIPT)) | set(re.findall(r'"([kt]_\w+)"', SCRIPT))
    used |= set(re.findall(r'data-(?:word|title)="(\w+)"', source("page.html")))
    assert used <= set(words), f"missing in WORDS: {used - set(words)}"
    used |= {"t_pinned", "t_unpinned", "theme_auto", "theme_light", "theme_dark"}  # composed keys
    code = SCRIPT.replace(table[0], "")
    unused = set(words) - used - set(re.findall(r'"(\w+)"', code)) - set(re.findall(r"(\w+): \"", code))
    assert not unused, f"not used: {unused}"
    for key, (english, chinese) in words.items():
        if "|" not in english:
            assert set(re.findall(r"\{\w+\}", english)) == set(re.findall(r"\{\w+\}", chinese)), key


def test_every_event_type_is_described() -> None:
    missing = [tag for tag in ev.TYPES if f'case "{tag}":' not in SCRIPT]
    assert not missing, f"add {', '.join(missing)} to describe() in view.js and to WORDS in words.js"
