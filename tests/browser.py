"""A headless Chromium, told what to do over the pipe of its DevTools protocol; no driver is needed."""

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt install chromium)")


class Page:
    """A tab.

    Attributes:
      problems: what the page wrote on its console as an error or a warning, and exceptions that nobody caught.
    """

    def __init__(self, commands: int, answers: int):
        self._commands, self._answers = os.fdopen(commands, "wb"), os.fdopen(answers, "rb")
        self._number, self._session, self._rest, self._seen = 0, "", b"", set()
        self.problems: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while (answer := self._read()).get("id") != self._number:
            self._note(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._answers.fileno(), 2**16)
            if not more:
                raise RuntimeError("Chromium has ended")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        what, told = event["method"], event.get("params", {})
        self._seen.add(what)
        if what == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(told["exceptionDetails"]))
        if what == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.problems.append(json.dumps(told["args"]))
        if what == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            self.problems.append(told["entry"]["text"])

    def open(self, url: str) -> None:
        """Open an address, and wait until all of it is loaded."""
        self._seen.discard("Page.loadEventFired")
        self.send("Page.navigate", url=url)
        while "Page.loadEventFired" not in self._seen:
            self._note(self._read())

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in JavaScript, of a promise what it is resolved with."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"]))
        return result["result"].get("value")

    def becomes(self, expression: str, seconds: float = 20.0) -> bool:
        """Return whether an expression in JavaScript becomes true within some time: pages answer to events later."""
        return self.evaluate(
            f"new Promise(done => {{ const end = performance.now() + {1000 * seconds};"
            f" const look = () => ({expression}) ? done(true)"
            " : performance.now() > end ? done(false) : setTimeout(look, 20); look(); })"
        )

    def close(self) -> None:
        """Close the pipe."""
        with contextlib.suppress(BrokenPipeError):
            self._commands.close()
        self._answers.close()

    def point(self, selector: str) -> tuple[float, float]:
        """Move the pointer to the middle of an element, which is scrolled to; return where that is."""
        x, y = self.evaluate(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center', behavior: 'instant'});"
            " const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        return x, y

    def click(self, selector: str) -> None:
        """Click with the mouse on the middle of an element, which is scrolled to."""
        x, y = self.point(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def press(self, key: str) -> None:
        """Press a key, such as Enter or Tab, on whatever has the focus."""
        text = {"Enter": "\r"}.get(key, "")
        code = {"Enter": 13, "Tab": 9}[key]
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, text=text, windowsVirtualKeyCode=code)
        self.send("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)


@contextlib.contextmanager
def browser(folder: os.PathLike[str]) -> Iterator[Page]:
    """Start a Chromium for as long as a ``with`` block, whose profile is in ``folder``; yield a tab."""
    (their_commands, commands), (answers, their_answers) = os.pipe(), os.pipe()
    flags = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --remote-debugging-pipe"
    # The protocol reads from descriptor 3 and writes to 4.
    start = f'exec "$0" {flags} --user-data-dir="$1" 3<&{their_commands} 4>&{their_answers} 2>/dev/null'
    process = subprocess.Popen(
        ["bash", "-c", start, str(CHROMIUM), str(folder)], pass_fds=(their_commands, their_answers)
    )
    os.close(their_commands)
    os.close(their_answers)
    try:
        with contextlib.closing(Page(commands, answers)) as page:
            yield page
    finally:
        process.terminate()
        process.wait(30)
