"""A headless chromium for tests, driven over a pipe by its own protocol (CDP); nothing but the standard library."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--hide-scrollbars", "--disable-background-networking", "--disable-extensions",
         "--remote-debugging-pipe")  # fmt: skip
LAUNCH = """import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])"""


def found() -> str | None:
    """The browser's path, or None where there is none that can be driven over a pipe."""
    return next((path for path in map(shutil.which, NAMES) if path), None) if os.name == "posix" else None


class Browser:
    """One page in one browser; use it with ``with``."""

    def __init__(self, width=1400, height=900, dark=False):
        import fcntl  # there is none on Windows, where these tests are skipped

        self.folder = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        to_read, self.to = os.pipe()
        self.out, to_write = os.pipe()
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (to_read, to_write)]  # above 3 and 4, where they will be
        program = [found(), *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"]
        self.process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, *map(str, ends), *program],
            pass_fds=ends, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for end in (to_read, to_write, *ends):
            os.close(end)
        self.count, self.kept, self.errors, self.frames, self.session = 0, b"", [], [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.call("Page.enable")
        self.call("Runtime.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                    {"name": "prefers-reduced-motion", "value": "reduce"}]  # fmt: skip
        self.call("Emulation.setEmulatedMedia", features=features)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.call("Browser.close", session=None)
        self.process.wait(20)
        os.close(self.to)
        os.close(self.out)
        self.folder.cleanup()

    def call(self, method, session="own", **arguments):
        """One command of the protocol; returns its result."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": arguments}
        if session == "own" and self.session:
            message["sessionId"] = self.session
        self._send(json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == message["id"]:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]
            self._note(answer)

    def _note(self, message):
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(message["params"]["exceptionDetails"])
        if message.get("method") == "Target.attachedToTarget" and message["params"]["targetInfo"]["type"] == "iframe":
            self.frames.append(message["params"]["sessionId"])

    @contextmanager
    def frame(self):
        """Inside the block, commands go to the page's sandboxed frame, which is a target of its own."""
        self.call("Target.setAutoAttach", autoAttach=True, waitForDebuggerOnStart=False, flatten=True)
        while not self.frames:
            self.run("new Promise(done => setTimeout(done, 20))")
        outer, self.session = self.session, self.frames[-1]
        try:
            yield self
        finally:
            self.session = outer

    def _send(self, data):
        while data:
            data = data[os.write(self.to, data) :]

    def _receive(self, patience=60):
        while b"\0" not in self.kept:
            if not select.select([self.out], [], [], patience)[0]:
                raise TimeoutError(f"the browser has said nothing for {patience} s")
            part = os.read(self.out, 1 << 20)
            if not part:
                raise EOFError("the browser has ended")
            self.kept += part
        message, self.kept = self.kept.split(b"\0", 1)
        return json.loads(message)

    def open(self, path):
        """Open a file and wait until the page says that it is drawn."""
        self.call("Page.navigate", url=Path(path).resolve().as_uri())
        self.until("document.documentElement?.dataset.ready")

    def run(self, expression):
        """The value of a JavaScript expression, as Python data."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"].get("exception", {}).get("description", "error in the page"))
        return answer["result"].get("value")

    def until(self, expression, patience=30):
        """Wait until an expression is true; returns its value."""
        end = time.monotonic() + patience
        while not (value := self.run(expression)):
            if time.monotonic() > end:
                raise TimeoutError(f"still not true after {patience} s: {expression}; errors: {self.errors}")
            time.sleep(0.02)
        return value

    def click(self, x, y, times=1):
        """Press and let go of the left button, ``times`` times."""
        self.hover(x, y)
        for k in range(1, times + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=k)

    def hover(self, x, y):
        """Move the mouse."""
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def drag(self, start, end):
        """Press at ``start``, move to ``end``, let go."""
        self.hover(*start)
        self.call("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], button="left", buttons=1)
        for share in (0.5, 1.0):
            x, y = (a + share * (b - a) for a, b in zip(start, end, strict=True))
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        self.call("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], button="left")

    def wheel(self, x, y, by):
        """Turn the wheel."""
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=by)

    def key(self, name, text=None):
        """Press and let go of a key; ``text`` is what it types."""
        text = text if text is not None else (name if len(name) == 1 else "\r" if name == "Enter" else "")
        code = {"Enter": 13, "Escape": 27, "Tab": 9}.get(name, 0)
        self.call("Input.dispatchKeyEvent", type="keyDown", key=name, text=text, windowsVirtualKeyCode=code)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name, windowsVirtualKeyCode=code)

    def type(self, text):
        """Type into what has the focus."""
        self.call("Input.insertText", text=text)

    def picture(self, path):
        """Save what is seen as a PNG."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))
