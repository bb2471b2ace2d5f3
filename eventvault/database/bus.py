"""The EventBus owns the one open LevelDB handle and counts its users.

`plyvel` crashes if a handle is closed while another thread uses it. So whatever closes the handle (a restore's swap,
the reopening after a failed write) first waits for its users; new users wait until the database is open again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import plyvel

from eventvault import clock, progress
from eventvault.damage import SYSTEM_ERRORS, as_answer, is_damage
from eventvault.database import opening
from eventvault.database.commit import Committer
from eventvault.database.head_watch import HeadWatch
from eventvault.database.registry import EventRegistry
from eventvault.database.values import Head
from eventvault.database.view import DatabaseView
from eventvault.errors import (
    DatabaseDamaged,
    DatabaseError,
    EventVaultError,
    StoreRestoring,
    StoreUnavailable,
    TooBusy,
    WriteFailed,
)
from eventvault.progress import WAIT_SECONDS, Turn, wait_for
from eventvault.system_errors import text_of

log = logging.getLogger("EventBus")

REOPEN_TIMEOUT_SECONDS = 20.0
"""How long a reader or writer waits for a database that is being swapped or reopened."""
USERS_SECONDS = 20.0
"""How long the closing of the database waits for its users: pages of events are short."""


Check = Callable[[EventRegistry, Head | None], None]


def _no_check(registry: EventRegistry, before: Head | None) -> None:
    """Check nothing: for a database that nobody appends to."""


class Consumer(Protocol):
    """A reader of an outside source: started once the database is open, stopped before it is closed."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def accept_loss(self, topic: str, partition: int, cause: str) -> None: ...


class EventBus:
    """The owner of the LevelDB handle. Safe to use from many threads."""

    def __init__(
        self,
        database: Path,
        *,
        retain_in: Path | None = None,
        view: DatabaseView | None = None,
        now: clock.Clock = clock.now,
        publishes: bool = False,
    ) -> None:
        """retain_in: the folder for the torn end of a log; None: it is not retained.

        view: for reading while the disk keeps the database from being opened; None: then nothing can be read.
        publishes: as for `EventRegistry`.
        """
        self.database = database
        self.heads = HeadWatch(lambda: self.head)
        self.committer = Committer(self, self.heads.announce)
        self.problem: EventVaultError | None = None
        self.swap_lock = Turn("swap of the database")
        """Hold it to keep the database from being swapped. Acquired before any other lock of the bus."""
        self.before_swap: Callable[[], None] = lambda: None
        """Called by a swap, after the last write and while the database is still open."""
        self.repair: Callable[[], bool] = lambda: False
        """Called while a damaged database is closed; returns whether it may have been repaired."""
        self.on_writes_stopped: Callable[[], None] = lambda: None
        """Called in the committer's thread once a merge has met damage."""
        self.on_damage_read: Callable[[], None] = lambda: None
        """Called in the reader's thread when a read meets damage for the first time since the opening."""
        self.check: Check = _no_check
        """Called at each opening before anything is appended, with the head at the process's previous closing, if
        there was one. Raises why the database cannot be used."""
        self._before: Head | None = None
        self._retain_in = retain_in
        self._view = view
        self._now = now
        self._publishes = publishes
        self._consumers: list[Consumer] = []
        self._state = threading.Condition()
        self._users = 0
        self._started = False
        self._closing = False
        self._closer: progress.Activity | None = None
        self._damage_was_read = False
        self._remedy: str | None = None
        """What an operator can do about the damage of the open database; None: not known."""
        self._writes_stopped: DatabaseDamaged | None = None
        """Why LevelDB refuses every write: a merge met damage, and would meet it again soon after a reopening."""
        self._writable = False
        """True while events may be appended: the database itself is open, and no write failed since."""
        self._db: Any = None
        self._registry: EventRegistry | None = None

    def init(self, consumers: list[Consumer]) -> None:
        """Open the database, then start the committer and the consumers. A second call does nothing.

        Raises the reason why the database cannot be opened; nothing is started then.
        """
        if not self._writable:
            with self._exclusive():
                if not self._writable:  # a reopening may have opened it meanwhile
                    self._close_and_open()
        if not self._started:
            self._started = True
            self.committer.start()
            self._consumers = consumers
            for consumer in consumers:
                consumer.start()

    @property
    def registry(self) -> EventRegistry | None:
        """The registry, None while it is closed. For its counters only: database access goes through `using`."""
        return self._registry

    @property
    def head(self) -> Head | None:
        """Generation and last sequence of the open database; None while it is closed."""
        registry = self._registry
        return Head(registry.identity.generation, registry.last_sequence) if registry is not None else None

    def backlog(self) -> int | None:
        """Return how many events wait to be published; None if that is not known."""
        registry = self._registry
        return None if registry is None else registry.outbox.backlog

    def generations(self) -> list[str]:
        """Return the ids of the open database's generations, oldest first; an empty list while it is closed."""
        registry = self._registry
        return [generation.id for generation in registry.identity.generations] if registry is not None else []

    @property
    def is_read_only(self) -> bool:
        """Whether events can be read, but none can be appended; `problem` says why."""
        return self._registry is not None and not self._writable

    @property
    def is_writable(self) -> bool:
        """Whether events can be appended."""
        return self._writable

    @property
    def is_closing(self) -> bool:
        """Whether `using` would wait, because the database is being closed or opened again."""
        return self._closing

    @contextmanager
    def using(self) -> Iterator[EventRegistry]:
        """Yield the registry and keep it open until the context is left.

        Raises the reason why it is not open. A read that finds damage raises DatabaseDamaged, which is also set as
        `problem` until another database is opened. If the system fails a read, the error comes from `as_answer`.
        """
        try:
            with self._in_use() as registry:
                yield registry
        except plyvel.Error as error:
            if self._view is not None and self._view.has_holes and self.problem is not None:
                # The read met the zeros that a view has in place of unreadable pages.
                raise self.problem.with_traceback(None) from error
            if not is_damage(error):
                raise as_answer(f"reading {self.database}", error) from error
            raise self.report_damage(error) from error

    @contextmanager
    def writing(self) -> Iterator[EventRegistry]:
        """Yield the registry like `using`, but raise plyvel's errors unchanged, as the committer needs them.

        Raises `problem` while nothing can be appended, and DatabaseDamaged after a merge has met damage, until the
        database is opened again.
        """
        with self._in_use() as registry:
            self.check_writable()
            if self._writes_stopped is not None:
                raise self._writes_stopped.with_traceback(None)
            yield registry

    def report_damage(self, error: plyvel.Error, *, stops_writes: bool = False) -> DatabaseDamaged:
        """Report damage that LevelDB met to health. stops_writes: LevelDB refuses every write from now on."""
        damage = opening.damage_error(self.database, text_of(error))
        if self._remedy is not None:
            damage = DatabaseDamaged(damage.message, hint=self._remedy)
        if stops_writes or self._writes_stopped is None:
            self.problem = damage
        if stops_writes:
            self._writes_stopped = damage
            log.error("%s; events can be read, but none can be written", damage)
            self.on_writes_stopped()
        elif not self._damage_was_read:
            self._damage_was_read = True
            self.on_damage_read()
        return damage

    def check_writable(self) -> None:
        """Raise the reason if nothing can be appended. Call it within `using`, before work that a view cannot serve."""
        if not self._writable:
            problem = self.problem or StoreUnavailable("the database cannot be written now", hint="try again")
            raise problem.with_traceback(None)

    @contextmanager
    def _in_use(self) -> Iterator[EventRegistry]:
        deadline = time.monotonic() + REOPEN_TIMEOUT_SECONDS
        with self._state:
            while self._closing:
                if not self._state.wait(deadline - time.monotonic()):
                    raise StoreUnavailable("the database is being opened again", hint="try again in a moment")
            registry = self._registry
            if registry is None:
                raise self.problem or StoreUnavailable("the database is not open", hint="GET /api/health says why")
            self._users += 1
        try:
            yield registry
        finally:
            with self._state:
                self._users -= 1
                self._state.notify_all()

    def reopen(self) -> None:
        """Close the database and open it again, as a failed write requires. Raises the reason if that fails.

        Reads continue after a failure: with the same handle if the disk lacks room for an opening, else with a view.
        Raises WriteFailed if another generation began because events are missing: a Kafka consumer must not continue
        from offsets after those events.
        """
        self._writable = False  # also if users keep the database from being closed
        with self._exclusive():
            registry = self._close_and_open()
        if self._before is not None and registry.identity.generation != self._before.generation:
            raise WriteFailed(
                "the database lacks events that were acknowledged; a new generation began",
                hint="send the request again; GET /api/health says what is missing and how to bring it back",
            )

    def reopen_after(self, change: Callable[[], None]) -> None:
        """Close the database, call `change`, which repairs its files, and open it again. Appends wait meanwhile."""
        with self.swap_lock.held(), self.committer.paused(), self._exclusive():
            self._close()
            try:
                change()
            finally:
                self._open()

    def hint_at_remedy(self, hint: str) -> None:
        """Set the hint of the open database's damage: what an operator can do."""
        self._remedy = hint
        if self._writes_stopped is not None:
            self.problem = self._writes_stopped = DatabaseDamaged(self._writes_stopped.message, hint=hint)
        elif isinstance(self.problem, DatabaseDamaged):
            self.problem = DatabaseDamaged(self.problem.message, hint=hint)

    @contextmanager
    def swapping(self) -> Iterator[EventRegistry | None]:
        """Let nobody read the database or append to it. Yields its registry, None if it is not open.

        Appends wait in the queue. The consumers stop first: what they have read belongs to the old database.
        """
        consumers = self._consumers
        try:
            for consumer in consumers:
                consumer.stop()
            with self.swap_lock.held(), self.committer.paused():
                self.before_swap()
                with self._exclusive():
                    yield self._registry
        finally:
            for consumer in consumers:
                consumer.start()

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """Close the database, and open it again once its folder was replaced. Use it within `swapping`.

        It is closed before: LevelDB opens tables by path, and would open the new folder's files of the same number. A
        failure opens the old database again. After StoreRestoring the swap is decided but not done: the database stays
        closed.
        """
        self._close()
        try:
            yield
        except StoreRestoring as error:
            self._note(error)
            raise
        except BaseException:
            with suppress(EventVaultError):
                self._open()
            raise
        self._open()

    def stop(self, seconds: float = WAIT_SECONDS) -> None:
        """Stop the consumers and commit the queue. The handle stays open until the process ends.

        Raises TooBusy if the committer makes no progress for `seconds`.
        """
        for consumer in self._consumers:
            with suppress(TooBusy):  # messages that it has read and not stored are read again
                consumer.stop()
        self.committer.stop(seconds)

    def close(self) -> None:
        """Stop, and close the handle: for a process that continues, such as a test."""
        self.stop()
        with self._exclusive():
            self._close()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Keep new users out and wait for the present ones to end. Raises TooBusy if one does not end."""
        wait_for(self._begin_closing, "the opening of the database", lambda: self._closer)
        try:
            wait_for(self._is_unused, "the reads of the database that are under way", seconds=USERS_SECONDS)
            yield
        finally:
            with self._state:
                self._closing, self._closer = False, None
                self._state.notify_all()

    def _begin_closing(self, seconds: float) -> bool:
        with self._state:
            if not self._state.wait_for(lambda: not self._closing, seconds):
                return False
            self._closing, self._closer = True, progress.current()
            return True

    def _is_unused(self, seconds: float) -> bool:
        with self._state:
            return self._state.wait_for(lambda: self._users == 0, seconds)

    @property
    def _is_view_open(self) -> bool:
        return self._view is not None and self._view.folder is not None

    def _close(self) -> None:
        if not self._is_view_open:
            self._before = self.head or self._before
        self._registry = None
        self._writable = False
        if self._db is not None:
            self._db.close()
            self._db = None
        self.remove_view()

    def remove_view(self) -> None:
        """Remove the folder of a view, and those that killed processes left. Nobody may read the view any more."""
        if self._view is not None:
            self._view.remove()

    def _close_and_open(self) -> EventRegistry:
        """Open the database. A handle that cannot write is closed first, if the disk has room for an opening."""
        if self._db is not None and not self._is_view_open:
            try:
                opening.check_room(self.database)
            except OSError as error:
                raise self._note(opening.opening_error(self.database, error)) from error
            self._close()
        return self._open()

    def _open(self) -> EventRegistry:
        """Open the database, after a repair if it is damaged and can be repaired. Raises why it cannot be opened."""
        try:
            return self._open_as_it_is()
        except DatabaseDamaged:
            if not self.repair():
                raise
        return self._open_as_it_is()

    def _open_as_it_is(self) -> EventRegistry:
        """Open the database in place of a view. If the system fails that, open a view for reads and raise why."""
        self._writes_stopped, self._remedy, self._damage_was_read = None, None, False
        try:
            db, registry = self._open_with(self._open_leveldb, self.check)
        except (*SYSTEM_ERRORS, EventVaultError) as error:
            problem = self._note(opening.opening_error(self.database, error))
            if self._db is None and not isinstance(problem, DatabaseError):
                self._open_view()
            raise problem from error
        self._close()
        self._db, self._registry, self._writable, self.problem = db, registry, True, None
        self.heads.announce()
        return registry

    def _open_leveldb(self) -> Any:
        return opening.open_checked(self.database, retain_in=self._retain_in)

    def _open_view(self) -> None:
        if self._view is None:
            return
        try:
            self._db, self._registry = self._open_with(self._view.open)
        except (*SYSTEM_ERRORS, EventVaultError) as error:
            log.warning("the events cannot be read either: %s", text_of(error))
            self._view.remove()
            return
        log.warning("events can be read, but none can be appended")

    def _open_with(self, open_leveldb: Callable[[], Any], check: Check = _no_check) -> tuple[Any, EventRegistry]:
        db = open_leveldb()
        try:
            registry = EventRegistry(db, self.database, self._now, publishes=self._publishes)
            check(registry, self._before)
        except BaseException:
            db.close()
            raise
        return db, registry

    def _note(self, problem: EventVaultError) -> EventVaultError:
        """Report the problem to health, and log it unless it is the same as before."""
        if str(problem) != str(self.problem):
            log.error("%s", problem.message)
        self.problem = problem
        return problem
