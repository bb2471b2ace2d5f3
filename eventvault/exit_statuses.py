"""The exit statuses of all commands and processes: only this module gives the numbers their names.

Commands: `STATUSES` says what each means. `ANSWERS` in `app/error_codes.py` has the status of each error's code.

Processes:

- The store (`python -m app.store`) and the dispatcher (`python -m app.dispatcher`): DONE after a stop, and if
  another process owns the database or the service has ended. FAILED if it cannot start, is stuck, or ends after an
  unexpected error. INVALID_SETTINGS. Never 3 or 4: where gunicorn's master is process 1 of a container, it would read
  them as a worker that cannot boot.
- The service (gunicorn): gunicorn's own statuses, and INVALID_SETTINGS.
- A worker (`python -m worker`): DONE after it has drained. INVALID_SETTINGS, also for a module with handlers that is
  missing or invalid. SIGNALLED + the signal's number after a second signal.
- The check of a worker (`python -m worker.heartbeat`): DONE if each worker here can work, else FAILED.
- The nursery of a worker: DONE after a stop; FAILED if a module with handlers cannot be imported.
- An executor of a worker: DONE after a stop; CRASHED after an unexpected error; else the status of the handler.
"""

DONE = 0
FAILED = 1
USAGE = 2
"""The status of click and argparse too."""
NOT_FOUND = 3
CONFLICT = 4
INVALID = 5
TRY_AGAIN = 6
NO_SPACE = 7
PARTLY = 8
"""The command did its work, but not all of it."""
CRASHED = 70
"""An unexpected error (EX_SOFTWARE of sysexits.h). No command ends with it."""
INVALID_SETTINGS = 78
"""The status of every program whose settings are not valid (EX_CONFIG of sysexits.h)."""
SIGNALLED = 128
"""Plus the number of the signal that ended the program, as shells have it."""
INTERRUPTED = 130
"""SIGNALLED + SIGINT."""

STATUSES = {
    DONE: ("done", "also: there was nothing to do, and it says so"),
    FAILED: (
        "failed",
        "a fault of EventVault; something is wrong that was looked for; or the answer to a question was no",
    ),
    USAGE: ("usage", "the command line itself is wrong"),
    NOT_FOUND: ("not there", "the backup, event, job, moment or previous database"),
    CONFLICT: ("conflict", "it exists, is protected, a restore runs, a service runs, or it is forbidden"),
    INVALID: ("not valid", "a damaged or alien archive, bad input, a question that nobody can answer"),
    TRY_AGAIN: ("try again", "the store, a disk or Kafka does not answer or is busy, or somebody else cancelled it"),
    NO_SPACE: ("no space", "the disk is full"),
    PARTLY: ("partly", "some of it was not done: damaged backups among good ones, rejected lines of an import"),
    INVALID_SETTINGS: ("settings", "a setting is not allowed, or what the command is about is not configured"),
    INTERRUPTED: ("Ctrl-C", "nothing is half done"),
}
"""The exit statuses of commands: each with its short name and when it comes, as `eventvault help exits` shows them."""
