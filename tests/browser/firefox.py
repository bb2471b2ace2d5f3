"""Debian's Firefox, driven by its own Marionette: playwright drives its own builds only, and Debian has no geckodriver.

The protocol is WebDriver's commands as JSON over TCP, each with its length before it. Source: Firefox,
`remote/marionette`.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import processes
from tests.browser import axe

FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
WITHIN = 90
"""Seconds that a page has for each step."""
WIDE, HEIGHT = 1280, 900
"""Of the page, as far as a test does not say otherwise."""
_PREFERENCES = {
    "marionette.port": 0,
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "intl.accept_languages": "en-GB",
}
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The name under which WebDriver's JSON has the id of an element."""
_NULL, _BACKSPACE, _CONTROL = "\ue000", "\ue003", "\ue009"
"""Keys as WebDriver writes them; the first one releases what is held."""
_BUTTON = """
const [words, kinds] = arguments;
const matches = element => [element.innerText, element.ariaLabel].some(text => new RegExp(words).test(text?.trim()));
const isOn = element => element.checkVisibility() && !element.disabled;
const reachable = document.querySelector("dialog[open]") || document;
const found = [...reachable.querySelectorAll(kinds)].find(each => isOn(each) && matches(each)) || null;
found?.scrollIntoView({ block: "center", behavior: "instant" });
return found;
"""
_NOT_YET = ("element click intercepted", "element not interactable", "stale element reference", "no such element")
"""Errors of a click on what the page moves, covers or draws anew at this moment."""


class Firefox:
    """A browser with one page. connection: to its Marionette."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")
        self._count = 0
        self._receive()
        limits = {"script": WITHIN * 1000, "pageLoad": WITHIN * 1000}
        self.command("WebDriver:NewSession", {"strictFileInteractability": False, "timeouts": limits})
        self._frame: list[int] = self.run("return [outerWidth - innerWidth, outerHeight - innerHeight]")
        self.set_width(WIDE)

    def command(self, name: str, parameters: Any = None) -> Any:
        """Send a command of WebDriver. Raises AssertionError for an error of the browser."""
        error, result = self._ask(name, parameters)
        assert error is None, f"{name}: {error}"
        return result.get("value", result) if isinstance(result, dict) else result

    def goto(self, address: str) -> None:
        self.command("WebDriver:Navigate", {"url": "about:blank"})
        self.command("WebDriver:Navigate", {"url": address})

    def set_width(self, width: int) -> None:
        """Let the page be so wide by a zoom, as somebody may: the window itself is never narrower than 450 pixels."""
        zoom = WIDE / width
        width_of_frame, height_of_frame = self._frame
        size = {"width": WIDE + width_of_frame, "height": round(HEIGHT * zoom) + height_of_frame}
        self.command("WebDriver:SetWindowRect", size)
        self.command("Marionette:SetContext", {"value": "chrome"})
        self.run("gBrowser.selectedBrowser.fullZoom = arguments[0]", zoom)
        self.command("Marionette:SetContext", {"value": "content"})
        processes.wait_until(lambda: self.run("return innerWidth") == width, f"the page is not {width} wide", WITHIN)

    def violations(self, script: str) -> Any:
        """What axe, which is `script`, finds in the page."""
        find = f"const [rules, done] = arguments; ({axe.FIND.strip()})(rules).then(done, error => done(`${{error}}`))"
        return self.command("WebDriver:ExecuteAsyncScript", {"script": f"{script}; {find}", "args": [axe.RULES]})

    def run(self, script: str, *arguments: Any) -> Any:
        return self.command("WebDriver:ExecuteScript", {"script": script, "args": list(arguments)})

    def see(self, words: str) -> None:
        """Wait until the page has these words."""
        try:
            processes.wait_until(lambda: words in self.text(), f"{words!r} is not there", WITHIN)
        except TimeoutError as error:
            raise AssertionError(f"{error}; the page has: {self.text()}") from None

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def press(self, words: str, kinds: str = "button, a, summary, label") -> None:
        """Click what has these words (a regular expression), once it is there and may be pressed."""

        def is_pressed() -> bool:
            found = self.run(_BUTTON, words, kinds)
            if found is None:
                return False
            error, _ = self._ask("WebDriver:ElementClick", {"id": found[_ELEMENT]})
            assert error is None or error["error"] in _NOT_YET, f"{words!r} cannot be pressed: {error}"
            return error is None

        processes.wait_until(is_pressed, f"there is no {words!r} to press", WITHIN)

    def find(self, selector: str) -> str:
        """Return the id of an element, once it is there."""
        wanted = {"using": "css selector", "value": selector}
        found: dict[str, str] = {}

        def is_there() -> bool:
            error, result = self._ask("WebDriver:FindElement", wanted)
            assert error is None or error["error"] in _NOT_YET, f"{selector!r} cannot be found: {error}"
            found.update(result["value"] if error is None else {})
            return error is None

        processes.wait_until(is_there, f"there is no {selector!r}", WITHIN)
        return found[_ELEMENT]

    def fill(self, selector: str, text: str) -> None:
        self.command("WebDriver:ElementSendKeys", {"id": self.find(selector), "text": text})

    def clear(self, selector: str) -> None:
        """Remove the text of a field as a person does: `ElementClear` tells the page of no input."""
        self.command(
            "WebDriver:ElementSendKeys", {"id": self.find(selector), "text": f"{_CONTROL}a{_NULL}{_BACKSPACE}"}
        )

    def drag(self, selector: str, to: tuple[float, float]) -> None:
        """Drag an element to a place in the window."""
        begin = {"type": "pointerMove", "origin": {_ELEMENT: self.find(selector)}, "x": 0, "y": 0, "duration": 0}
        moves = [{"type": "pointerMove", "x": round(to[0]), "y": round(to[1]), "duration": 200}]
        steps = [begin, {"type": "pointerDown", "button": 0}, *moves, {"type": "pointerUp", "button": 0}]
        pointer = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": steps}
        self.command("WebDriver:PerformActions", {"actions": [pointer]})

    def keys(self, *keys: str) -> None:
        """Press keys one after another, wherever the focus is."""
        steps = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self.command("WebDriver:PerformActions", {"actions": [{"type": "key", "id": "keyboard", "actions": steps}]})

    def _ask(self, name: str, parameters: Any) -> tuple[Any, Any]:
        """Send a command. Returns (error, result), the error None where there is none."""
        self._count += 1
        text = json.dumps([0, self._count, name, parameters or {}]).encode()
        self._connection.sendall(b"%d:%s" % (len(text), text))
        _, _, error, result = self._receive()
        return error, result

    def _receive(self) -> Any:
        length = b""
        while (character := self._file.read(1)) != b":":
            assert character, "Firefox ended"
            length += character
        return json.loads(self._file.read(int(length)))


@contextmanager
def started(folder: Path) -> Iterator[Firefox]:
    """Yield a Firefox without a window, whose profile lies in `folder`."""
    assert FIREFOX is not None
    lines = [f"user_pref({json.dumps(name)}, {json.dumps(value)});" for name, value in _PREFERENCES.items()]
    (folder / "user.js").write_text("\n".join(lines))
    command = [
        FIREFOX,
        "--headless",
        "--marionette",
        "--remote-allow-system-access",
        "--no-remote",
        "--profile",
        str(folder),
        "about:blank",
    ]
    with (folder / "firefox.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    port = folder / "MarionetteActivePort"
    try:
        processes.wait_until(lambda: port.exists() and port.read_text().strip(), "Firefox does not listen", WITHIN)
        with socket.create_connection(("127.0.0.1", int(port.read_text())), timeout=WITHIN) as connection:
            yield Firefox(connection)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(20)
