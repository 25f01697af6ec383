"""A headless Chromium, driven by the DevTools protocol over a pair of pipes: no driver and no port."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from base64 import b64decode
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)
# The keys that the browser itself acts on are known to it by number.
_CODES = {"Escape": 27, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


def found() -> str | None:
    """The path of the browser that is installed, if one is."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """A browser with one tab, as a context manager."""

    def __init__(self, language: str = "en-US", patience: float = 60.0) -> None:
        path = found()
        if path is None:
            raise FileNotFoundError("no Chromium is installed")
        self._patience = patience
        self._profile = tempfile.TemporaryDirectory(prefix="openai2-chromium-", ignore_cleanup_errors=True)
        reads, self._out = os.pipe()
        self._in, writes = os.pipe()
        # The browser reads from its descriptor 3 and writes to 4; a shell puts them there.
        self._process = subprocess.Popen(
            [
                *("bash", "-c", f'exec "$@" 3<&{reads} 4>&{writes}', "bash", path, *FLAGS),
                *(f"--user-data-dir={self._profile.name}", f"--lang={language}", "about:blank"),
            ],
            pass_fds=(reads, writes),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "LANGUAGE": language, "TZ": "UTC"},
        )
        os.close(reads)
        os.close(writes)
        self._buffer = b""
        self._last = 0
        self._session: str | None = None
        #: What the page said on its console, and what went wrong in it.
        self.said: list[str] = []
        #: The addresses that were asked for.
        self.requests: list[str] = []
        try:
            self._begin(language)
        except BaseException:
            self.close()
            raise

    def _begin(self, language: str) -> None:
        pages = [one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"]
        attached = self.call("Target.attachToTarget", targetId=pages[0]["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setLocaleOverride", locale=language)
        self.call(
            "Network.setUserAgentOverride",
            userAgent=self.evaluate("navigator.userAgent"),
            acceptLanguage=language,
        )
        self.size(1280, 800)

    def __enter__(self) -> Chromium:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser, and forget all that it kept."""
        for end in (self._out, self._in):
            os.close(end)
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._profile.cleanup()

    # -- the protocol

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """What a method of the protocol returns. Raises RuntimeError, TimeoutError."""
        self._last += 1
        number = self._last
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            reply = self._next(time.monotonic() + self._patience, method)
            if reply.get("id") != number:
                continue
            if "error" in reply:
                raise RuntimeError(f"{method}: {reply['error']}")
            result: dict[str, Any] = reply["result"]
            return result

    def _next(self, until: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(f"the browser does not answer to {what}")
            piece = os.read(self._in, 1 << 20)
            if not piece:
                raise RuntimeError(f"the browser ended during {what}")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        reply: dict[str, Any] = json.loads(line)
        self._note(reply)
        return reply

    def _note(self, reply: dict[str, Any]) -> None:
        params = reply.get("params", {})
        if reply.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.said.append(str(details.get("exception", {}).get("description") or details["text"]))
        elif reply.get("method") == "Runtime.consoleAPICalled":
            self.said.append(" ".join(str(one.get("value")) for one in params["args"]))
        elif reply.get("method") == "Log.entryAdded":
            self.said.append(str(params["entry"]["text"]))
        elif reply.get("method") == "Network.requestWillBeSent":
            self.requests.append(str(params["request"]["url"]))

    # -- what a person does

    def open(self, url: str) -> None:
        """Go to an address, and wait until it is there."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def evaluate(self, script: str) -> Any:
        """The value of an expression in the page; a promise is awaited. Raises RuntimeError."""
        reply = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in reply:
            raise RuntimeError(reply["exceptionDetails"]["exception"].get("description", "it threw"))
        return reply["result"].get("value")

    def wait(self, condition: str, seconds: float = 20.0) -> None:
        """Wait until an expression is true. Raises TimeoutError."""
        until = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > until:
                raise TimeoutError(f"it did not become true: {condition}")
            time.sleep(0.02)

    def still(self) -> None:
        """Wait until what was asked for is drawn."""
        self.evaluate(
            "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))"
        )

    def key(self, key: str, *, shift: bool = False) -> None:
        """Press a key."""
        params: dict[str, Any] = {"key": key, "modifiers": 8 if shift else 0}
        params["windowsVirtualKeyCode"] = _CODES.get(key, ord(key[0]))
        if len(key) == 1:
            params["text"] = key
        self.call("Input.dispatchKeyEvent", type="keyDown", **params)
        self.call("Input.dispatchKeyEvent", type="keyUp", **params)
        self.still()

    def type(self, text: str) -> None:
        """Write into what has the focus."""
        self.call("Input.insertText", text=text)
        self.still()

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        box = self.evaluate(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)
        self.still()

    def size(self, width: int, height: int, scale: float = 1.0) -> None:
        """Give the window that size."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def media(self, **features: str) -> None:
        """Prefer something: `media(prefers_color_scheme="dark")`."""
        wanted = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=wanted)

    def picture(self, path: Path) -> None:
        """Save what is to be seen as a PNG."""
        self.still()
        path.write_bytes(b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def paper(self, path: Path) -> None:
        """Print to a PDF."""
        printed = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        path.write_bytes(b64decode(printed["data"]))
