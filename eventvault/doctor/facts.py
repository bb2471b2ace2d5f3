"""The facts that are gathered of an installation, as plain data. Instants are in microseconds, sizes in bytes."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from eventvault.problems import Problem
from eventvault.settings import Settings


class FileSystem(msgspec.Struct, frozen=True):
    """kind: such as `ext4`. source: the device that is mounted, such as `/dev/sda1`."""

    kind: str
    source: str
    read_only: bool


class Folder(msgspec.Struct, frozen=True, kw_only=True):
    """One of the three folders. problem: why it cannot be used as a folder, None if it can or is not there.

    device: its `st_dev`. odd: what else than files and folders lies in it, in words.
    """

    setting: str
    path: str
    exists: bool = False
    problem: str | None = None
    writable: bool = False
    device: int | None = None
    free: int | None = None
    total: int | None = None
    file_system: FileSystem | None = None
    odd: tuple[str, ...] = ()


class Lock(msgspec.Struct, frozen=True):
    """`owner.lock`. since: when its holder began. stopped: a signal such as SIGSTOP stopped the holder."""

    held: bool = False
    pid: int | None = None
    since: int | None = None
    stopped: bool = False


class StoreAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the store at the socket says. `silent`: somebody listens and does not answer in time.

    status: as `Health.status`. error: why there is none, though the store answers.
    """

    state: Literal["none", "answers", "silent", "other version"] = "none"
    pid: int | None = None
    version: str | None = None
    mode: str | None = None
    status: dict[str, Any] | None = None
    error: str | None = None


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """The files of the database. torn: bytes at the end of its log that a start cuts off.

    problems: sentences about damage. unread: why the events could not be counted. holder: the process that has it open.
    """

    kind: Literal["none", "rest", "ours", "foreign"] = "none"
    tables: int = 0
    torn: int = 0
    problems: tuple[str, ...] = ()
    unread: str | None = None
    holder: str | None = None
    events: int | None = None
    generation: str | None = None
    last_recorded: int | None = None


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """The files of `jobs_db`. torn, problems: as of `Database`. is_open: a dispatcher has it open.

    returns: whether a start brings jobs back from the copy in BACKUP_DIR, as there is no `jobs_db`.
    """

    exists: bool = False
    is_open: bool = False
    tables: int = 0
    torn: int = 0
    problems: tuple[str, ...] = ()
    returns: bool = False


class Backups(msgspec.Struct, frozen=True, kw_only=True):
    """What BACKUP_DIR holds. sources: what a lost database can be recovered from, in words; empty if it is not lost.

    segments, gaps, last_sequence, last_time: of the journal of the present generation. newest: when the newest archive
    was made. unread: why the archives or the journal could not be read.
    """

    archives: int = 0
    good: int = 0
    size: int = 0
    newest: int | None = None
    newest_sequence: int | None = None
    sources: str = ""
    segments: int = 0
    segments_damaged: int = 0
    gaps: tuple[tuple[int, int], ...] = ()
    last_sequence: int | None = None
    last_time: int | None = None
    problems: tuple[Problem, ...] = ()
    unread: str | None = None


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a start of the service would meet. finishes, staged: the source of a restore. restores: an archive's name.

    problems: as health would name them, or why a start would be refused. open: those that wait for a decision.
    """

    finishes: str | None = None
    staged: str | None = None
    restores: str | None = None
    problems: tuple[Problem, ...] = ()
    open: tuple[Problem, ...] = ()


class Clock(msgspec.Struct, frozen=True):
    """now: of the system. forward: it ran forward while it was read. ahead: by how much it is not believed."""

    now: int
    forward: bool = True
    ahead: int | None = None


class Access(msgspec.Struct, frozen=True):
    """closed: every request needs a token. valid: how many tokens are. problems: of their files."""

    closed: bool = False
    valid: int = 0
    problems: tuple[Problem, ...] = ()


class Brokers(msgspec.Struct, frozen=True):
    """reached: address → None, or why it cannot be reached. refused, hint: why they, or the settings, refuse a client.

    readable: sentences about files with secrets that other users may read.
    """

    reached: dict[str, str | None] = {}
    refused: str | None = None
    hint: str = ""
    readable: tuple[str, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that was gathered. A part is None if it was not looked at; `unanswered` names those that took too
    long, `failed` has why others could not be.

    settings: None if a folder is not known. settings_problems: what is not allowed. rehearsal: the newest one as the
    API shows it. last_words: how the last store died.
    sizes: setting of a folder → the bytes of all files below it; empty if counting took too long.
    """

    at: int
    settings: Settings | None = None
    settings_problems: tuple[str, ...] = ()
    folders: tuple[Folder, ...] = ()
    lock: Lock | None = None
    store: StoreAnswer = StoreAnswer()
    database: Database | None = None
    jobs: Jobs | None = None
    backups: Backups | None = None
    start: Start | None = None
    rehearsal: dict[str, Any] | None = None
    clock: Clock | None = None
    access: Access | None = None
    brokers: Brokers = Brokers()
    sizes: dict[str, int] = {}
    last_words: str = ""
    unanswered: tuple[str, ...] = ()
    failed: dict[str, str] = {}

    @property
    def status(self) -> dict[str, Any] | None:
        """What the running store says of itself; None if none answers."""
        return self.store.status

    def folder(self, setting: str) -> Folder | None:
        return next((folder for folder in self.folders if folder.setting == setting), None)
