"""A headless Chromium, driven by the DevTools protocol over two pipes."""

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

from typing_extensions import Self

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)
# The browser handles these keys itself and knows them by number.
_CODES = {"Escape": 27, "Enter": 13, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}


def find_browser() -> str | None:
    """Return the path of the installed browser, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """A browser with one tab, as a context manager."""

    def __init__(self, language: str = "en-US", timeout: float = 60.0) -> None:
        path = find_browser()
        if path is None:
            raise FileNotFoundError("no Chromium is installed")
        self._timeout = timeout
        self._profile = tempfile.TemporaryDirectory(prefix="openai2-chromium-", ignore_cleanup_errors=True)
        reads, self._out = os.pipe()
        self._in, writes = os.pipe()
        # The browser reads from descriptor 3 and writes to 4: the shell connects the pipes to these.
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
        #: Console messages and uncaught exceptions.
        self.console: list[str] = []
        #: Requested URLs.
        self.requests: list[str] = []
        try:
            self._begin(language)
        except BaseException:
            self.close()
            raise

    def _begin(self, language: str) -> None:
        targets = self.call("Target.getTargets")["targetInfos"]
        pages = [target for target in targets if target["type"] == "page"]
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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and delete its profile."""
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
        """Call a method of the protocol and return its result. Raises RuntimeError, TimeoutError."""
        self._last += 1
        number = self._last
        message: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        while True:
            reply = self._next(time.monotonic() + self._timeout, method)
            if reply.get("id") != number:
                continue
            if "error" in reply:
                raise RuntimeError(f"{method}: {reply['error']}")
            result: dict[str, Any] = reply["result"]
            return result

    def _next(self, until: float, method: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            if not select.select([self._in], [], [], max(0.0, until - time.monotonic()))[0]:
                raise TimeoutError(f"no answer to {method}")
            piece = os.read(self._in, 1 << 20)
            if not piece:
                raise RuntimeError(f"the browser exited during {method}")
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\0")
        reply: dict[str, Any] = json.loads(line)
        self._note(reply)
        return reply

    def _note(self, reply: dict[str, Any]) -> None:
        params = reply.get("params", {})
        if reply.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.console.append(str(details.get("exception", {}).get("description") or details["text"]))
        elif reply.get("method") == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(arg.get("value")) for arg in params["args"]))
        elif reply.get("method") == "Log.entryAdded":
            self.console.append(str(params["entry"]["text"]))
        elif reply.get("method") == "Network.requestWillBeSent":
            self.requests.append(str(params["request"]["url"]))

    # -- actions

    def open(self, url: str) -> None:
        """Navigate to a URL and wait until it is loaded."""
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page; await a promise. Raises RuntimeError."""
        reply = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in reply:
            raise RuntimeError(reply["exceptionDetails"]["exception"].get("description", "exception"))
        return reply["result"].get("value")

    def wait(self, condition: str, seconds: float = 20.0) -> None:
        """Wait until an expression is true. Raises TimeoutError."""
        until = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            if time.monotonic() > until:
                raise TimeoutError(f"still false: {condition}")
            time.sleep(0.02)

    def wait_for_frame(self) -> None:
        """Wait until pending changes are drawn."""
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
        self.wait_for_frame()

    def type(self, text: str) -> None:
        """Insert text into the focused element."""
        self.call("Input.insertText", text=text)
        self.wait_for_frame()

    def click(self, selector: str) -> None:
        """Click on the middle of an element."""
        box = self.evaluate(
            f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)
        self.wait_for_frame()

    def size(self, width: int, height: int, scale: float = 1.0) -> None:
        """Set the size of the window in CSS pixels; below 600 it is a phone."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )

    def media(self, **features: str) -> None:
        """Emulate media features, as in `media(prefers_color_scheme="dark")`; without any, reset them."""
        emulated = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=emulated)

    def screenshot(self, path: Path) -> None:
        """Save the window as a PNG."""
        self.wait_for_frame()
        path.write_bytes(b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def print_pdf(self, path: Path) -> None:
        """Print to a PDF."""
        printed = self.call("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
        path.write_bytes(b64decode(printed["data"]))
