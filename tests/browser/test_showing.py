"""The look of the page in a headless Chromium: messages, Markdown, themes, phones, print, languages."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from shutil import which

import pytest

from openai2 import Chat, Engine, Multimodal_Part, assistant_msg, user_msg
from openai2.offline import OfflineServer
from openai2.offline.protocol import png
from tests.support.browser import Browser, Show
from tests.support.stores import busy

pytestmark = pytest.mark.browser

# -- text


def test_message_is_shown_as_text(engine: Engine, show: Show) -> None:
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
    assert page.chat()[0] == script
    assert page.evaluate("document.title") == "<img src=x onerror=alert(1)> @4"
    assert page.evaluate("document.querySelectorAll('#chat img, #chat script').length") == 0
    assert page.evaluate("document.querySelector('#chat strong').innerText") == "bold"
    links: list[list[str]] = page.evaluate(
        "Array.from(document.querySelectorAll('#chat .body a')).map((link) => [link.href, link.rel])"
    )
    assert links == [["https://example.org/", "noopener noreferrer"]]
    assert page.texts(".ctl") == ["U+202E", "U+0007"]


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


def test_markdown_is_formatted(engine: Engine, show: Show) -> None:
    engine.create("a").add([assistant_msg(MARKDOWN)])
    page = show()
    drawn = page.evaluate(
        "document.querySelector('#chat .body > div').innerHTML.replace(/<(\\w+)[^>]*>/g, '<$1>')"
    )
    assert drawn == DRAWN.replace("\n", "")


@pytest.mark.parametrize(
    "text", ["*a " * 9000, "[" * 20000, "> " * 9000, "- " * 9000, "`" * 9999 + " `", "|-" * 9000]
)
def test_markdown_time_is_bounded(engine: Engine, show: Show, text: str) -> None:
    engine.create("a").add([assistant_msg(text[:19999]), assistant_msg("end")])
    begun = time.monotonic()
    page = show()
    assert page.chat()[-1] == "end"
    assert time.monotonic() - begun < 10


def test_policy_blocks_other_scripts_and_requests(engine: Engine, show: Show) -> None:
    engine.create("a")
    page = show()
    page.evaluate(
        "(() => { const script = document.createElement('script'); script.textContent = 'window.owned = 1';"
        " document.body.append(script); const image = document.createElement('img');"
        " image.src = 'http://127.0.0.1:9/'; document.body.append(image);"
        " fetch('http://127.0.0.1:9/').catch(() => 0); })()"
    )
    page.wait_for_frame()
    assert page.evaluate("window.owned === undefined")
    page.wait("document.body.lastChild.complete")
    refused = [line for line in page.console if "Content Security Policy" in line]
    assert len(refused) >= 3 and page.evaluate("document.body.lastChild.naturalWidth") == 0
    page.console.clear()
    page.requests.clear()  # of what was refused


def test_tool_calls_pictures_and_redacted_messages(engine: Engine, show: Show) -> None:
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
    messages = page.chat()
    assert "127.0.0.1:9/x.png" in messages[0] and "not loaded" in messages[0]
    assert "weather" in messages[1] and '"city": "Paris"' in messages[1]
    assert messages[2:] == ["21 °C", "permanently removed: a secret"]


def test_message_of_five_megabytes_is_shortened(engine: Engine, show: Show) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg("why?"), assistant_msg("lorem ipsum dolor\n" * 290_000), user_msg("oh")])
    page = show(at="#a@3")
    assert sum(map(len, page.chat())) < 10_000
    assert page.texts(".show-all") == ["Show all (5.0 MB)"]
    begun = time.monotonic()
    page.evaluate("document.querySelector('.show-all').click()")
    page.wait_for_frame()
    assert time.monotonic() - begun < 10
    assert (
        page.evaluate("document.querySelector('#chat .block').parentElement.textContent.length") > 4_900_000
    )


def test_answer_shows_its_facts(engine: Engine, show: Show) -> None:
    with OfflineServer() as server:
        chat = Chat("sk-offline-0000", server.MODEL, db=engine, conversation="a", base_url=server.base_url)
        chat.request("自然数1的后面是几?")
    page = show()
    assert page.chat() == ["自然数1的后面是几?", "2"]
    meta = page.texts(".assistant .meta")[0]
    assert server.MODEL in meta and "tokens" in meta and "key" in meta


# -- how it looks


def test_theme_follows_system_and_switch(engine: Engine, show: Show) -> None:
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
def test_page_fits_a_phone(engine: Engine, show: Show, width: int) -> None:
    busy(engine)
    conversation = engine.create("a name that is long " * 5 + "end")
    conversation.add(
        [assistant_msg(f"{'x' * 400}\n\n```\n{'y' * 400}\n```\n\n| {'z' * 300} | b |\n|---|---|\n| 1 | 2 |")]
    )
    page = show(width=width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("document.getElementById('chat').scrollWidth") <= width
    page.click("#menu")
    time.sleep(0.3)  # the menu slides in
    page.click(".event")
    assert page.place().endswith("@1")
    page.key("?")
    assert page.evaluate("document.getElementById('keys').getBoundingClientRect().right") <= width
    page.key("Escape")
    page.key("c")
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_print_has_the_whole_view(engine: Engine, show: Show, tmp_path: Path) -> None:
    conversation = engine.create("a")
    conversation.add([user_msg(f"message number {number}.") for number in range(300)])
    page = show()
    assert len(page.chat()) < 60
    page.print_pdf(tmp_path / "page.pdf")
    page.wait_for_frame()
    assert len(page.chat()) < 60, "what was drawn for printing is still there"
    printed = (tmp_path / "page.pdf").read_bytes()
    assert printed.count(b"/Type /Page\n") > 5
    if which("pdftotext"):
        text = subprocess.run(
            ["pdftotext", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True
        ).stdout
        assert [number for number in range(300) if f"message number {number}." not in text] == []


@pytest.mark.usefixtures("chromium")
def test_chinese_browser_shows_chinese(engine: Engine, tmp_path: Path) -> None:
    busy(engine)
    engine.export_page("main", tmp_path / "page.html")
    with Browser("zh-CN") as page:
        page.open((tmp_path / "page.html").as_uri())
        page.wait_for_frame()
        assert page.evaluate("document.documentElement.lang") == "zh"
        assert "分支" in page.texts("#aside h2")[0]
        assert not page.console
