"""The page in a headless Chromium: what is shown at each event, how it is walked through, and how fast.

`make page` runs these. The times are far above what is measured: a machine may be busy.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from typing import Any

import pytest

from openai2 import Chat, Engine, Multimodal_Part, assistant_msg, system_msg, user_msg
from openai2.core import messages as msg
from openai2.offline import OfflineServer
from openai2.offline.protocol import png
from tests.browser.chromium import Chromium, found
from tests.support.stores import busy

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(found() is None, reason="no Chromium is installed; `make page` gets one"),
]

Show = Callable[..., Chromium]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as chromium:
        yield chromium


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine(None) as engine:
        yield engine


@pytest.fixture
def show(chromium: Chromium, engine: Engine, tmp_path: Path) -> Iterator[Show]:
    """Opens a page of the engine's conversations; nothing in it may go wrong, or ask for anything."""

    def open_page(*names: str, at: str = "", width: int = 1280) -> Chromium:
        engine.export_page(list(names) or None, tmp_path / "page.html")
        chromium.size(width, 800)
        chromium.open("about:blank")
        chromium.said.clear()
        chromium.requests.clear()
        chromium.open((tmp_path / "page.html").as_uri() + at)
        chromium.still()
        return chromium

    yield open_page
    assert not chromium.said
    assert not [url for url in chromium.requests if not url.startswith(("file:", "data:", "about:"))]
    chromium.media()


def texts(chromium: Chromium, selector: str) -> list[str]:
    """What is to be read in each of these elements, from the top."""
    found_: list[str] = chromium.evaluate(
        f"Array.from(document.querySelectorAll('{selector}'))"
        ".sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)"
        ".map(one => one.innerText.trim())"
    )
    return found_


def chat(chromium: Chromium) -> list[str]:
    return texts(chromium, "#chat .message .body")


def place(chromium: Chromium) -> str:
    return str(chromium.evaluate("document.getElementById('title').innerText")) + str(
        chromium.evaluate("document.getElementById('subtitle').innerText")
    )


def run_in_store(chromium: Chromium) -> None:
    time.sleep(0.35)


# -- travelling


def test_every_view_is_shown_as_it_was(engine: Engine, show: Show) -> None:
    busy(engine)
    for name in ("main", "side", "deeper", "group"):
        conversation = engine.open(name)
        page = show(name)
        for version in range(conversation.version, 0, -1):
            told = [msg.text_of(one.message) for one in conversation.held(version)]
            shown = texts(page, "#chat .message:not(.is-removed):not(.is-waiting):not(.is-failed) .body")
            assert shown == told, f"{name}@{version}"
            page.key("ArrowLeft")


def test_what_had_just_changed_is_marked(engine: Engine, show: Show) -> None:
    conversation = engine.create("a")
    conversation.add(
        [system_msg("s"), user_msg("one"), assistant_msg("1"), user_msg("two"), assistant_msg("2")]
    )
    conversation.rollback()
    conversation.pin(0)
    page = show()
    assert texts(page, ".is-pinned .body") == ["s"]
    assert page.evaluate("document.querySelectorAll('.who svg').length") == 1
    assert "Pinned 1 message" in texts(page, "#caption")[0]
    page.key("ArrowLeft")
    assert texts(page, ".is-removed .body") == ["two", "2"]
    assert chat(page) == ["s", "one", "1", "two", "2"], "what left is shown in its place"
    assert "−2" in texts(page, "#caption")[0]
    page.key("ArrowLeft")
    assert texts(page, ".is-added .body") == ["2"]


def test_the_time_line_is_dragged(engine: Engine, show: Show) -> None:
    conversation = engine.create("a")
    for number in range(30):
        conversation.add([user_msg(f"message {number}")])
    page = show()
    box: list[float] = page.evaluate(
        "(() => { const b = document.getElementById('track').getBoundingClientRect();"
        " return [b.left, b.top + b.height / 2, b.width]; })()"
    )
    for kind, part in (
        ("mousePressed", 1.0),
        ("mouseMoved", 0.8),
        ("mouseMoved", 0.0),
        ("mouseReleased", 0.0),
    ):
        x = box[0] + box[2] * part
        page.call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=box[1], button="left", buttons=1, clickCount=1
        )
        page.still()
    assert place(page) == "a@1"
    assert texts(page, "#counter") == ["1 of 31"]
    page.key("End")
    assert place(page) == "a@31"


def test_addresses_lead_to_events(engine: Engine, show: Show) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("one"), user_msg("two")])
    fork = conversation.fork("b & c", at=2)
    fork.add([user_msg("three")])
    page = show(at=f"#{conversation.id}@2")
    assert (place(page), chat(page)) == ("a@2", ["one"])
    page.key("ArrowRight")
    run_in_store(page)
    assert page.evaluate("location.hash") == f"#{conversation.id}@3"
    page.key("]")
    run_in_store(page)
    assert (place(page), chat(page)) == ("b & c@2", ["one", "three"])
    page.evaluate("history.back()")
    page.wait("document.getElementById('title').innerText === 'a'")
    page.evaluate("history.forward()")
    page.wait("document.getElementById('title').innerText !== 'a'")
    page.evaluate("location.hash = 'b%20%26%20c@1'")
    page.still()
    assert place(page) == "b & c@1"
    page.key("ArrowLeft")
    assert place(page) == "b & ca@2", "a fork's history goes on into its parent's"
    page.evaluate("location.hash = 'nobody@7'")
    page.still()
    assert "nobody@7" in texts(page, "#notice")[0]


def test_branches_and_events_are_walked_by_mouse_and_keys(engine: Engine, show: Show) -> None:
    busy(engine)
    page = show("main")
    assert {text.split("\n")[0] for text in texts(page, ".branch")} == {"main", "side", "deeper"}
    page.click(".branch:not([aria-current])")
    assert place(page).startswith("side@")
    page.key("[")
    assert place(page).startswith("main@")
    page.key("Home")
    assert place(page) == "main@1"
    page.click(".event:not([aria-current])")
    assert place(page) == "main@2"
    page.click(".event .chip")
    assert place(page).startswith("side@")


# -- text


def test_what_a_message_holds_is_text(engine: Engine, show: Show) -> None:
    conversation = engine.create("<img src=x onerror=alert(1)>")
    script = "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\">"
    conversation.add(
        [
            user_msg(script),
            assistant_msg(f"**bold** `{script}`\n\n[a](javascript:alert(1)) [b](https://example.org/)"),
            assistant_msg("safe\u202egnp.exe\x07"),
        ]
    )
    page = show()
    assert chat(page)[0] == script
    assert page.evaluate("document.title") == "<img src=x onerror=alert(1)> @4"
    assert page.evaluate("document.querySelectorAll('#chat img, #chat script').length") == 0
    assert page.evaluate("document.querySelector('#chat strong').innerText") == "bold"
    links: list[list[str]] = page.evaluate(
        "Array.from(document.querySelectorAll('#chat .body a')).map(one => [one.href, one.rel])"
    )
    assert links == [["https://example.org/", "noopener noreferrer"]]
    assert texts(page, ".ctl") == ["U+202E", "U+0007"]


MARKDOWN = """\
# One *two*
**a** _b_ `c*d*` ~~e~~ snake_case_f 2*3*4 <https://example.org/x_y_z>.
- one
  1. first
  2. second
- two

> quoted
> - deep

| a | b |
|---|--:|
| 1 | `2` |

```py
x = "**" < 1
```
***
open **bold and `code"""

DRAWN = """\
<h3>One <em>two</em></h3>
<p><strong>a</strong> <em>b</em> <code>c*d*</code> <s>e</s> snake_case_f 2*3*4 \
&lt;<a>https://example.org/x_y_z</a>&gt;.</p>
<ul><li>one<ol><li>first</li><li>second</li></ol></li><li>two</li></ul>
<blockquote><p>quoted</p><ul><li>deep</li></ul></blockquote>
<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td><code>2</code></td></tr></table>
<pre><code>x = "**" &lt; 1</code></pre>
<hr>
<p>open **bold and `code</p>"""


def test_markdown(engine: Engine, show: Show) -> None:
    engine.create("a").add([assistant_msg(MARKDOWN)])
    page = show()
    drawn = page.evaluate(
        "document.querySelector('#chat .body > div').innerHTML.replace(/<(\\w+)[^>]*>/g, '<$1>')"
    )
    assert drawn == DRAWN.replace("\n", "")


@pytest.mark.parametrize(
    "text", ["*a " * 9000, "[" * 20000, "> " * 9000, "- " * 9000, "`" * 9999 + " `", "|-" * 9000]
)
def test_markdown_takes_no_time_to_speak_of(engine: Engine, show: Show, text: str) -> None:
    engine.create("a").add([assistant_msg(text[:19999]), assistant_msg("end")])
    begun = time.monotonic()
    page = show()
    assert chat(page)[-1] == "end"
    assert time.monotonic() - begun < 10


def test_the_policy_lets_nothing_else_run(engine: Engine, show: Show) -> None:
    engine.create("a")
    page = show()
    page.evaluate(
        "(() => { const one = document.createElement('script'); one.textContent = 'window.owned = 1';"
        " document.body.append(one); const two = document.createElement('img');"
        " two.src = 'http://127.0.0.1:9/'; document.body.append(two);"
        " fetch('http://127.0.0.1:9/').catch(() => 0); })()"
    )
    page.still()
    assert page.evaluate("window.owned === undefined")
    page.wait("document.body.lastChild.complete")
    refused = [said for said in page.said if "Content Security Policy" in said]
    assert len(refused) >= 3 and page.evaluate("document.body.lastChild.naturalWidth") == 0
    page.said.clear()
    page.requests.clear()  # of what was refused


def test_tool_calls_pictures_and_what_was_redacted(engine: Engine, show: Show) -> None:
    conversation = engine.create("a")
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    picture = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/x.png"}}
    conversation.add(
        [
            {
                "role": "user",
                "content": [Multimodal_Part.text("what?"), Multimodal_Part.png(png(0xC85028)), picture],
            },
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "21 °C"},
            user_msg("the password is swordfish"),
        ]
    )
    engine.redact(conversation.id, 5, reason="a secret")
    page = show()
    page.wait("document.querySelector('#chat img').naturalWidth > 0")
    said = chat(page)
    assert "127.0.0.1:9/x.png" in said[0] and "not loaded" in said[0]
    assert "weather" in said[1] and '"city": "Paris"' in said[1]
    assert said[2:] == ["21 °C", "permanently removed: a secret"]


def test_a_message_of_five_megabytes_is_shown_shortened(engine: Engine, show: Show) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("why?"), assistant_msg("lorem ipsum dolor\n" * 290_000), user_msg("oh")])
    page = show(at="#a@3")
    assert sum(map(len, chat(page))) < 10_000
    assert texts(page, ".show-all") == ["Show all (5.0 MB)"]
    begun = time.monotonic()
    page.evaluate("document.querySelector('.show-all').click()")
    page.still()
    assert time.monotonic() - begun < 10
    assert (
        page.evaluate("document.querySelector('#chat .block').parentElement.textContent.length") > 4_900_000
    )


# -- two branches, and search


def test_two_branches_side_by_side(engine: Engine, show: Show) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("one"), assistant_msg("1")])
    fork = conversation.fork("b")
    conversation.add(
        [user_msg("two"), assistant_msg("the quick fox"), user_msg("left?"), assistant_msg("yes")]
    )
    fork.add([user_msg("two"), assistant_msg("the slow fox"), user_msg("right?"), assistant_msg("yes")])
    page = show("a")
    page.key("c")
    rows = texts(page, ".pair .question")
    assert [row.split("\n") for row in rows] == [
        ["one", "same"],
        ["two", "changed"],
        ["left?", "only here"],
        ["right?", "only here"],
    ]
    assert (texts(page, "del.word"), texts(page, "ins.word")) == (["quick"], ["slow"])
    run_in_store(page)
    assert ".." in page.evaluate("location.hash")
    again = page.evaluate("location.href")
    page.open("about:blank")
    page.open(again)
    page.still()
    assert len(texts(page, ".pair")) == 4
    page.key("c")
    assert not texts(page, ".pair")


def test_search_finds_and_leads_there(engine: Engine, show: Show) -> None:
    busy(engine)
    conversation = engine.create("chinese")
    conversation.add([user_msg("日本首都是什么？"), assistant_msg("Tokyo <b>东京</b>")])
    page = show()
    page.key("/")
    page.type("<B>东京 tokyo")
    page.wait("document.querySelectorAll('#results a').length === 1")
    page.key("Enter")
    assert place(page) == "chinese@3"
    assert page.evaluate("CSS.highlights.get('found').size") >= 2
    page.key("/")
    page.type("there is no such thing")
    page.wait("document.getElementById('progress').innerText === 'Nothing found'")
    page.key("Escape")
    assert page.evaluate("document.querySelectorAll('dialog[open]').length") == 0


# -- how it looks


def test_light_dark_and_the_switch(engine: Engine, show: Show) -> None:
    engine.create("a")
    page = show()
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.media(prefers_color_scheme="dark")
    dark = page.evaluate(paper)
    assert light != dark
    page.key("t")
    assert page.evaluate(paper) == light
    page.key("t")
    page.media()
    assert page.evaluate(paper) == dark
    page.key("t")
    assert page.evaluate(paper) == light


@pytest.mark.parametrize("width", [320, 768])
def test_nothing_sticks_out_on_a_phone(engine: Engine, show: Show, width: int) -> None:
    busy(engine)
    conversation = engine.create("a name that is long " * 5 + "end")
    conversation.add(
        [assistant_msg(f"{'x' * 400}\n\n```\n{'y' * 400}\n```\n\n| {'z' * 300} | b |\n|---|---|\n| 1 | 2 |")]
    )
    page = show(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.getElementById('chat').scrollWidth") <= width
    page.click("#menu")
    time.sleep(0.3)
    page.click(".event")
    assert place(page).endswith("@1")
    page.key("?")
    assert page.evaluate("document.getElementById('keys').getBoundingClientRect().right") <= width
    page.key("Escape")
    page.key("c")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_paper_holds_the_whole_view(engine: Engine, show: Show, tmp_path: Path) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg(f"message number {number}.") for number in range(300)])
    page = show()
    assert len(chat(page)) < 60
    page.paper(tmp_path / "page.pdf")
    page.still()
    assert len(chat(page)) < 60, "what was drawn for paper is gone again"
    printed = (tmp_path / "page.pdf").read_bytes()
    assert printed.count(b"/Type /Page\n") > 5
    if which("pdftotext"):
        text = subprocess.run(
            ["pdftotext", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True
        ).stdout
        assert [number for number in range(300) if f"message number {number}." not in text] == []


def test_a_chinese_reader_reads_chinese(engine: Engine, tmp_path: Path) -> None:
    busy(engine)
    engine.export_page("main", tmp_path / "page.html")
    with Chromium("zh-CN") as page:
        page.open((tmp_path / "page.html").as_uri())
        page.still()
        assert page.evaluate("document.documentElement.lang") == "zh"
        assert "分支" in texts(page, "#aside h2")[0]
        assert not page.said


# -- ten thousand events

_WALK = """(async (key, times) => {
  const took = [];
  for (let time = 0; time < times; time++) {
    const start = performance.now();
    document.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
    await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
    took.push(performance.now() - start);
  }
  return took.sort((a, b) => a - b)[times >> 1];
})"""


def test_ten_thousand_events(engine: Engine, show: Show) -> None:
    conversation = engine.create("big")
    for start in range(0, 5000, 50):
        rounds = [
            (
                user_msg(f"question {n} " + "word " * (n % 50)),
                assistant_msg(f"answer **{n}** " + "text " * (n % 200)),
            )
            for n in range(start, start + 50)
        ]
        conversation.add([message for one in rounds for message in one])
        if start % 1000 == 500:
            conversation.rollback(10)
            conversation.undo()
    begun = time.monotonic()
    page = show()
    opened = time.monotonic() - begun
    count = "document.querySelectorAll('*').length"
    nodes: list[int] = [page.evaluate(count)]
    steps: dict[str, Any] = {}
    for key in ("ArrowLeft", "ArrowRight"):
        steps[key] = page.evaluate(f"{_WALK}('{key}', 40)")
        nodes.append(page.evaluate(count))
    page.evaluate("document.getElementById('chat').scrollTop = 40000")
    page.still()
    nodes.append(page.evaluate(count))
    page.key("Home")
    page.key("End")
    page.still()
    nodes.append(page.evaluate(count))
    assert chat(page)[-1].startswith("answer 4999")
    print(f"opened in {opened:.2f} s, steps {steps} ms, {nodes} elements")
    assert max(nodes) < 2000, "what is not seen is not drawn"
    if not os.environ.get("OPENAI2_SLOW"):
        assert opened < 5
        assert max(steps.values()) < 250


def test_a_conversation_with_the_built_in_server(engine: Engine, show: Show) -> None:
    with OfflineServer() as server:
        one = Chat("sk-offline-0000", server.MODEL, db=engine, conversation="a", base_url=server.base_url)
        one.request("自然数1的后面是几?")
    page = show()
    assert chat(page) == ["自然数1的后面是几?", "2"]
    meta = texts(page, ".assistant .meta")[0]
    assert server.MODEL in meta and "tokens" in meta and "key" in meta
