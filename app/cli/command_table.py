"""The one table of commands: help, completion and the entry points in pyproject.toml are made from it.

Nothing that a command needs is imported here: `--help`, and the shell at each Tab, ask this table alone. A group has an
entry for each of its commands, or is an entry itself: `CommandEntry("app.cli.tokens:group", "Tokens.")`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CommandEntry:
    """where: `module:attribute` of the command. summary: its line in help."""

    where: str
    summary: str
    hidden: bool = False


@dataclass(frozen=True)
class Noun:
    """A group. summary: its line in help. verbs: its commands, in the order of help."""

    summary: str
    verbs: dict[str, CommandEntry]


COMMANDS: dict[str, Noun | CommandEntry] = {
    "backup": Noun(
        "Back up, restore, undo.",
        {
            "create": CommandEntry("app.cli.backup.create:create", "Back up now."),
            "list": CommandEntry("app.cli.backup.listing:list_backups", "The backups, newest first."),
            "restore": CommandEntry("app.cli.backup.restore:restore", "Go back to a backup or any moment."),
            "show": CommandEntry("app.cli.backup.listing:show", "One backup and its manifest."),
            "undo": CommandEntry("app.cli.backup.restore:undo", "Take a restore back."),
            "timeline": CommandEntry("app.cli.backup.timeline:timeline", "How far back you can go, and to what."),
            "verify": CommandEntry("app.cli.backup.verify:verify", "Read backups to the last byte."),
            "rehearse": CommandEntry("app.cli.backup.rehearse:rehearse", "Try a restore, and measure it."),
            "pin": CommandEntry("app.cli.backup.keep:pin", "Keep from rotation. (unpin)"),
            "unpin": CommandEntry("app.cli.backup.keep:unpin", "Return to rotation.", hidden=True),
            "prune": CommandEntry("app.cli.backup.prune:prune", "What rotation keeps and removes, and why."),
            "download": CommandEntry("app.cli.backup.copy:download", "Copy a backup out."),
            "upload": CommandEntry("app.cli.backup.copy:upload", "Take a backup in."),
            "delete": CommandEntry("app.cli.backup.keep:delete", "Remove one backup, for good."),
            "diff": CommandEntry("app.cli.events.diff:diff", "What differs between two moments.", hidden=True),
            "recover": CommandEntry("app.cli.backup.recover:recover", "Bring back a lost STORAGE_DIR."),
            "trust": CommandEntry("app.cli.backup.trust:trust", "Restore another's archives as they are."),
        },
    ),
    "events": Noun(
        "Import, export, look.",
        {
            "import": CommandEntry("app.cli.events.import_events:import_events", "Import a file of any size."),
            "export": CommandEntry("app.cli.events.export:export", "Write events to a file."),
            "tail": CommandEntry("app.cli.events.tail:tail", "The newest ones, and each new one."),
            "count": CommandEntry("app.cli.events.count:count", "How many, by type, source or subject."),
            "get": CommandEntry("app.cli.events.post:get", "One event, as it is stored."),
            "post": CommandEntry("app.cli.events.post:post", "Store an event."),
            "diff": CommandEntry("app.cli.events.diff:diff", "What differs between two moments."),
        },
    ),
    "jobs": Noun(
        "Queue, dead letters, retries.",
        {
            "list": CommandEntry("app.cli.jobs.listing:list_jobs", "What runs and waits; --dead: what failed."),
            "submit": CommandEntry("app.cli.jobs.submitting:submit", "Submit a job."),
            "show": CommandEntry("app.cli.jobs.listing:show", "One job and its attempts."),
            "watch": CommandEntry("app.cli.jobs.submitting:watch", "The progress of one, to its end."),
            "retry": CommandEntry("app.cli.jobs.changing:retry", "Run dead ones again."),
            "cancel": CommandEntry("app.cli.jobs.changing:cancel", "End jobs before they are done."),
            "pause": CommandEntry("app.cli.jobs.changing:pause", "Send no more of a type. (resume)"),
            "resume": CommandEntry("app.cli.jobs.changing:resume", "End a pause.", hidden=True),
            "types": CommandEntry("app.cli.jobs.listing:list_types", "The types that workers run."),
            "schedules": CommandEntry("app.cli.jobs.schedules:list_schedules", "Jobs at set times."),
            "schedule": CommandEntry("app.cli.jobs.schedules:schedule", "Submit one at set times. (unschedule)"),
            "unschedule": CommandEntry("app.cli.jobs.schedules:unschedule", "Delete a schedule.", hidden=True),
        },
    ),
    "kafka": CommandEntry("app.cli.kafka:group", "Lag, stopped partitions, quarantine."),
    "operations": CommandEntry("app.cli.operations.group:group", "What runs at the moment."),
    "tokens": CommandEntry("app.cli.tokens:group", "Who may use the service."),
    "audit": CommandEntry("app.cli.audit:group", "What was done, and who did it."),
    "problems": CommandEntry("app.cli.problems:group", "Problems, and decisions about them."),
    "notify": CommandEntry("app.cli.notify:group", "Notifications."),
    "doctor": CommandEntry("app.cli.doctor.command:doctor", "Check everything."),
    "completion": CommandEntry("app.cli.completion:completion", "Print the completion script for bash, zsh or fish."),
    "help": CommandEntry("app.cli.help:show_help", "Help on a command, or on `exits`."),
}
"""Name → group or command, in the order of help. pyproject.toml names each of them too; a test compares."""
