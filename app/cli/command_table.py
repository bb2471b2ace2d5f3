"""The one table of commands: help, completion and the entry points in pyproject.toml are made from it.

Nothing that a command needs is imported here: `--help`, and the shell at each Tab, ask this table alone. A group has an
entry for each of its commands, or is an entry itself: `Entry("app.cli.tokens:group", "Tokens.")`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """where: `module:attribute` of the command. summary: its line in help."""

    where: str
    summary: str
    hidden: bool = False


@dataclass(frozen=True)
class Noun:
    """A group. summary: its line in help. verbs: its commands, in the order of help."""

    summary: str
    verbs: dict[str, Entry]


COMMANDS: dict[str, Noun | Entry] = {
    "backup": Noun(
        "Back up, restore, undo.",
        {
            "create": Entry("app.cli.backup.create:create", "Back up now."),
            "list": Entry("app.cli.backup.listing:list_backups", "The backups, newest first."),
            "restore": Entry("app.cli.backup.restore:restore", "Go back to a backup or any moment."),
            "show": Entry("app.cli.backup.listing:show", "One backup and its manifest."),
            "undo": Entry("app.cli.backup.restore:undo", "Take a restore back."),
            "timeline": Entry("app.cli.backup.timeline:timeline", "How far back you can go, and to what."),
            "verify": Entry("app.cli.backup.verify:verify", "Read backups to the last byte."),
            "rehearse": Entry("app.cli.backup.rehearse:rehearse", "Restore aside, measure, throw away."),
            "pin": Entry("app.cli.backup.keep:pin", "Keep from rotation. (unpin)"),
            "unpin": Entry("app.cli.backup.keep:unpin", "Return to rotation.", hidden=True),
            "prune": Entry("app.cli.backup.prune:prune", "What rotation keeps and removes, and why."),
            "download": Entry("app.cli.backup.copy:download", "Copy a backup out."),
            "upload": Entry("app.cli.backup.copy:upload", "Take a backup in."),
            "delete": Entry("app.cli.backup.keep:delete", "Remove one backup, for good."),
            "diff": Entry("app.cli.events.diff:diff", "What differs between two moments.", hidden=True),
            "recover": Entry("app.cli.backup.recover:recover", "Bring back a lost STORAGE_DIR."),
            "trust": Entry("app.cli.backup.trust:trust", "Restore another's archives as they are."),
        },
    ),
    "events": Noun(
        "Import, export, look.",
        {
            "import": Entry("app.cli.events.import_events:import_events", "Import a file of any size."),
            "export": Entry("app.cli.events.export:export", "Write events to a file."),
            "tail": Entry("app.cli.events.tail:tail", "The newest ones, and each new one."),
            "count": Entry("app.cli.events.count:count", "How many, by type, source or subject."),
            "get": Entry("app.cli.events.post:get", "One event, as it is stored."),
            "post": Entry("app.cli.events.post:post", "Store an event."),
            "diff": Entry("app.cli.events.diff:diff", "What differs between two moments."),
        },
    ),
    "jobs": Noun(
        "Queue, dead letters, retries.",
        {
            "list": Entry("app.cli.jobs.listing:list_jobs", "What runs and waits; --dead: what failed."),
            "submit": Entry("app.cli.jobs.submitting:submit", "Submit a job."),
            "show": Entry("app.cli.jobs.listing:show", "One job and its attempts."),
            "watch": Entry("app.cli.jobs.submitting:watch", "The progress of one, to its end."),
            "retry": Entry("app.cli.jobs.changing:retry", "Run dead ones again."),
            "cancel": Entry("app.cli.jobs.changing:cancel", "End jobs before they are done."),
            "pause": Entry("app.cli.jobs.changing:pause", "Send no more of a type. (resume)"),
            "resume": Entry("app.cli.jobs.changing:resume", "End a pause.", hidden=True),
            "types": Entry("app.cli.jobs.listing:list_types", "The types that workers run."),
            "schedules": Entry("app.cli.jobs.schedules:list_schedules", "Jobs at set times."),
            "schedule": Entry("app.cli.jobs.schedules:schedule", "Submit one at set times. (unschedule)"),
            "unschedule": Entry("app.cli.jobs.schedules:unschedule", "Delete a schedule.", hidden=True),
        },
    ),
    "kafka": Entry("app.cli.kafka:group", "Lag, stopped partitions, quarantine."),
    "operations": Entry("app.cli.operations.group:group", "What runs at the moment."),
    "tokens": Entry("app.cli.tokens:group", "Who may use the service."),
    "audit": Entry("app.cli.audit:group", "What was done, and who did it."),
    "problems": Entry("app.cli.problems:group", "Problems, and decisions about them."),
    "notify": Entry("app.cli.notify:group", "Notifications."),
    "doctor": Entry("app.cli.doctor.command:doctor", "Check everything."),
    "completion": Entry("app.cli.completion:completion", "Print the completion script for bash, zsh or fish."),
    "help": Entry("app.cli.help:show_help", "Help on a command, or on `exits`."),
}
"""Name → group or command, in the order of help. Whoever adds one adds it to pyproject.toml too; a test compares."""
