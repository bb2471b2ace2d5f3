"""A certificate for localhost, made by the command that docs/tls.md shows."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.service import PROJECT

PAGE = PROJECT / "docs" / "tls.md"


def make_certificate(folder: Path) -> None:
    """Write `fullchain.pem` and `privkey.pem` into `folder`."""
    shown = re.search(r"^    (openssl req .*?[^\\])$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert shown is not None
    command = shown[1].replace("\\\n", " ").replace("certificates/", f"{folder}/")
    subprocess.run(["sh", "-ec", command], capture_output=True, timeout=60, check=True)
