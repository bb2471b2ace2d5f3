"""`python -m app`: gunicorn with `gunicorn.conf.py`, its own options passed on.

For what gunicorn reads from the environment before it reads that file: it takes `WEB_CONCURRENCY` for a number and
ends with a traceback where it is blank, which counts as unset here, or is none, which is answered like any other bad
setting.
"""

from __future__ import annotations

import os
import sys

from app import serving


def main(options: list[str]) -> None:
    """Check the settings and become gunicorn: the same process, so signals reach it."""
    serving.load_settings_or_exit()
    environment = dict(os.environ)
    if not environment.get("WEB_CONCURRENCY", "").strip():
        environment.pop("WEB_CONCURRENCY", None)
    os.execve(sys.executable, [sys.executable, "-m", "gunicorn", *options], environment)


if __name__ == "__main__":
    main(sys.argv[1:])
