"""`python -m app`: runs gunicorn with `gunicorn.conf.py` and passes its own options on.

gunicorn reads `WEB_CONCURRENCY` before that file and ends with a traceback if it is not a number. Here a blank value
counts as unset, and any other bad value is reported like every bad setting.
"""

from __future__ import annotations

import os
import sys

from app import serving


def main(options: list[str]) -> None:
    """Check the settings and become gunicorn. The process stays the same, so signals reach gunicorn."""
    serving.load_settings_or_exit()
    environment = dict(os.environ)
    if not environment.get("WEB_CONCURRENCY", "").strip():
        environment.pop("WEB_CONCURRENCY", None)
    # The options are those of whoever starts the service.
    os.execve(sys.executable, [sys.executable, "-m", "gunicorn", *options], environment)  # nosec B606


if __name__ == "__main__":
    main(sys.argv[1:])
