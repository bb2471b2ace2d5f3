"""Gives a child process its standard input, of any size, however busy the machine is.

`Popen.communicate` with a timeout forgets what it has not sent when the first call times out: the next calls send
nothing, and the child waits for the end of its input for ever.
"""

from __future__ import annotations

import subprocess
import threading
from contextlib import suppress

from eventvault.errors import TooBusy


def send_input(child: subprocess.Popen[bytes], content: bytes) -> None:
    """Have a thread write `content` and close the pipe; `communicate` reads only from then on.

    The thread ends with the child at the latest. Raises TooBusy, with the child killed, if there is no thread.
    """
    pipe, child.stdin = child.stdin, None
    assert pipe is not None  # nosec B101  # for mypy: its standard input is a pipe

    def send() -> None:
        with suppress(OSError), pipe:  # the child may end before it has read everything
            pipe.write(content)

    try:
        threading.Thread(target=send, name="input of a child", daemon=True).start()
    except RuntimeError as error:
        child.kill()
        pipe.close()
        raise TooBusy(f"no thread can be started: {error}", hint="try again: this process has too many") from error
