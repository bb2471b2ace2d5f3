"""The facts about an installation, as plain data. Instants are in microseconds, sizes in bytes."""

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
    """One of the three folders. problem: why it cannot be used as a folder; None if it can, or does not exist.

    device: its `st_dev`. odd: the pipes and devices in it, in words.
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
    """The answer of the store at the socket. `silent`: somebody listens but does not answer in time.

    status: as `Health.status`. error: why there is no status, although the store answers.
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
    """The files of `jobs_db`. torn, problems: as for `Database`. is_open: a dispatcher has it open.

    returns: there is no `jobs_db`, and a start brings jobs back from the copy in BACKUP_DIR.
    """

    exists: bool = False
    is_open: bool = False
    tables: int = 0
    torn: int = 0
    problems: tuple[str, ...] = ()
    returns: bool = False


class Backups(msgspec.Struct, frozen=True, kw_only=True):
    """What BACKUP_DIR holds. sources: what a lost database can be recovered from, in words; empty if it is not lost.

    segments, gaps, last_sequence, last_time: of the journal of the current generation. newest: when the newest archive
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
    """What a start would find. finishes, staged: the source of a restore. restores: the archive in the drop folder.

    problems: as health would show them, or why the start would fail. open: problems that wait for a decision.
    """

    finishes: str | None = None
    staged: str | None = None
    restores: str | None = None
    problems: tuple[Problem, ...] = ()
    open: tuple[Problem, ...] = ()


class Clock(msgspec.Struct, frozen=True):
    """now: of the system. forward: it ran forward while it was read. ahead: by how much, if it is not believed."""

    now: int
    forward: bool = True
    ahead: int | None = None


class Access(msgspec.Struct, frozen=True):
    """closed: every request needs a token. valid: how many tokens are valid. problems: of their files."""

    closed: bool = False
    valid: int = 0
    problems: tuple[Problem, ...] = ()


class Brokers(msgspec.Struct, frozen=True):
    """reached: address → None, or why it cannot be reached. refused, hint: why the brokers or the settings refuse a
    client. readable: sentences about files with secrets that other users may read.
    """

    reached: dict[str, str | None] = {}
    refused: str | None = None
    hint: str = ""
    readable: tuple[str, ...] = ()


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All facts. A part that could not be gathered is None: `unanswered` names the parts that took too long, `failed`
    has the errors of others.

    settings: None if a folder is unknown. settings_problems: which settings are invalid. rehearsal: the newest one as
    the API shows it. last_words: how the last store died. sizes: setting of a folder → the bytes of all files below it;
    empty if counting took too long.
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
        """The status of the running store; None if no store answers."""
        return self.store.status

    def folder(self, setting: str) -> Folder | None:
        return next((folder for folder in self.folders if folder.setting == setting), None)
