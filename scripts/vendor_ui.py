"""Copy the packages that the dashboard runs on from npm to `app/ui/static/vendor`.

Run by `make vendor` after a change of `scripts/ui-packages`. Two things differ from the packages' files: one import is
relative, because a policy without inline scripts allows no import map, and the names of source maps are removed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = PROJECT / "scripts" / "ui-packages"
VENDOR = PROJECT / "app" / "ui" / "static" / "vendor"
FILES = {
    "preact.mjs": "preact/dist/preact.mjs",
    "preact-LICENSE.txt": "preact/LICENSE",
    "hooks.mjs": "preact/hooks/dist/hooks.mjs",
    "htm.mjs": "htm/dist/htm.mjs",
    "htm-LICENSE.txt": "htm/LICENSE",
    "uPlot.min.js": "uplot/dist/uPlot.iife.min.js",
    "uPlot.min.css": "uplot/dist/uPlot.min.css",
    "uPlot-LICENSE.txt": "uplot/LICENSE",
}
"""Name in the vendor folder → file in `node_modules`."""
_BARE, _RELATIVE = b'from"preact"', b'from"./preact.mjs"'
_SOURCE_MAP = re.compile(rb"\n//# sourceMappingURL=\S+\s*\Z")
_NPM = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")


def vendor_files(modules: Path) -> dict[str, bytes]:
    """Return the files for the vendor folder: name → content. modules: the folder `node_modules`."""
    return {name: _with_relative_import((modules / source).read_bytes()) for name, source in FILES.items()}


def _with_relative_import(content: bytes) -> bytes:
    return _SOURCE_MAP.sub(b"\n", content.replace(_BARE, _RELATIVE))


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        for file in ("package.json", "package-lock.json"):
            shutil.copy(PACKAGES / file, name)
        subprocess.run(_NPM, cwd=name, check=True, timeout=300, stdout=sys.stderr)  # nosec B603  # a fixed command
        VENDOR.mkdir(parents=True, exist_ok=True)
        for file, content in vendor_files(Path(name) / "node_modules").items():
            (VENDOR / file).write_bytes(content)


if __name__ == "__main__":
    main()
