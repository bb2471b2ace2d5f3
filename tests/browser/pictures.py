"""Pictures of the page, as small WebP files. Where EVENTVAULT_PICTURES names a folder, the tests leave theirs there."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

QUALITY = 82
NARROW = 700
MOST_HEIGHT = {True: 1700, False: 1150}
"""Pixels: lists are longer. By whether the page is narrow."""


def folder() -> Path | None:
    """Where pictures are wanted, or None."""
    wanted = os.environ.get("EVENTVAULT_PICTURES")
    if not wanted:
        return None
    path = Path(wanted)
    path.mkdir(parents=True, exist_ok=True)
    return path


def take(page: Any, path: Path) -> None:
    """Take a picture of all of the page: the window becomes as high as it is, up to MOST_HEIGHT."""
    window = page.viewport_size
    height = page.evaluate("document.documentElement.scrollHeight")
    most = MOST_HEIGHT[window["width"] < NARROW]
    page.set_viewport_size({**window, "height": min(max(height, window["height"]), most)})
    page.evaluate("document.fonts.ready")
    page.evaluate("new Promise(painted => requestAnimationFrame(() => requestAnimationFrame(painted)))")
    session = page.context.new_cdp_session(page)
    shot = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    path.write_bytes(base64.b64decode(shot["data"]))
    session.detach()
    page.set_viewport_size(window)
