"""The states of a store from its start to its end, and what a request gets in each.

`starting`, or `restoring` for a start that may take long → `serving`, or `failed`, which is retried while a retry may
help → `stopping`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from eventvault import progress
from eventvault.damage import SYSTEM_ERRORS, as_answer
from eventvault.database.bus import EventBus
from eventvault.errors import (
    Cancelled,
    DatabaseDamaged,
    EventVaultError,
    StoreRestoring,
    StoreStopping,
    StoreUnavailable,
    TooBusy,
)
from eventvault.progress import Turn, running

log = logging.getLogger("BackupManager")

TICK_SECONDS = 1.0
STARTING_SECONDS = 10.0
"""How long a request waits for a store that opens the database, such as one that takes over."""
STOP_SECONDS = 3.0
"""How long a stop waits for a database that is being opened."""


class Lifecycle:
    """Starts the store, retries a start that failed, and answers for its state.

    swapping: held while a restore replaces the database, and during a start. prepare: runs before the database is
    opened. open_database: opens it. on_serving: called when the store serves for the first time. each_second: periodic
    work, called from the ticker's thread.
    """

    def __init__(
        self,
        bus: EventBus,
        swapping: Turn,
        *,
        prepare: Callable[[], None],
        open_database: Callable[[], None],
        on_serving: Callable[[], None],
        each_second: Callable[[], None],
    ) -> None:
        self.state = "starting"
        self._bus = bus
        self._swapping = swapping
        self._prepare = prepare
        self._open_database = open_database
        self._on_serving = on_serving
        self._each_second = each_second
        self._served = False
        self._serves_whole = False
        """Whether `on_serving` returned. If it failed, it cannot be called a second time."""
        self._failure: EventVaultError | None = None
        """Why the newest start failed."""
        self._ticker_error = ""
        self._serving = Turn("beginning to serve")
        """Held while the store begins to serve, so that a stop finds either everything started or nothing."""
        self._stopping = threading.Event()
        self._start_ended = threading.Event()

    def start(self, *, will_start_slowly: bool) -> None:
        """Start the store. If that fails, `state` is `failed`, and the ticker retries."""
        self.state = "restoring" if will_start_slowly else "starting"
        with running("start", "prepares STORAGE_DIR and opens the database"), self._swapping.held():
            self.try_to_open()
        self._start_ended.set()
        threading.Thread(target=self._tick, name="ticker", daemon=True).start()

    def stop(self) -> None:
        """Start nothing new once this returns, unless opening the database takes longer than STOP_SECONDS."""
        self._stopping.set()
        with contextlib.suppress(TooBusy), self._serving.held(STOP_SECONDS):
            pass
        self.state = "stopping"

    def try_to_open(self) -> None:
        """Prepare, open the database and serve; if that fails, `state` says so. The caller holds `swapping`."""
        try:
            if (
                self._bus.registry is None
            ):  # else this was done, and the folder of an open database must not be replaced
                self._prepare()
            self.serve()
        except Cancelled:
            self.state = "stopping"
        except EventVaultError as error:
            self._fail(error)
        except SYSTEM_ERRORS as error:
            self._fail(as_answer("starting the store", error))
        except Exception as error:
            log.exception("starting the store failed")
            self._fail(EventVaultError(f"starting the store failed: {error}", hint="the log says more"))

    def serve(self) -> None:
        """Open the database and serve. Raises why it cannot be opened, or Cancelled if the store is stopping."""
        with self._serving.held():
            if self._stopping.is_set():
                raise Cancelled("the store is stopping", hint="send the request again")
            self._open_database()
            if self._bus.problem is self._failure:
                self._bus.problem = None
            self.state = "serving"
            if not self._served:
                self._served = True
                self._on_serving()
                self._serves_whole = True

    def refusal(self) -> EventVaultError | None:
        """Return the error for a request that cannot be served now; None if it can."""
        if self._is_starting():
            return _restoring()
        if self.state == "serving":
            return None
        if self.state == "stopping":
            return StoreStopping("the store is stopping", hint="send the request again")
        return self._bus.problem or StoreUnavailable("the database is not open", hint="GET /api/health says why")

    def check(self) -> None:
        """Raise the error that `refusal` returns, if any."""
        refusal = self.refusal()
        if refusal is not None:
            raise refusal

    def check_readable(self) -> None:
        """Raise an error if events cannot be read. A database that cannot be written to can be read."""
        if self._is_starting() or self.state == "stopping" or not self._bus.is_read_only:
            self.check()

    def check_started(self) -> None:
        """Raise StoreRestoring during a start, but not after a failed one: a restore may be the remedy."""
        if self._is_starting():
            raise _restoring()

    def await_start(self, seconds: float) -> None:
        """Wait for the end of a start that restores nothing."""
        if self.state == "starting":
            self._start_ended.wait(seconds)

    def _is_starting(self) -> bool:
        for _ in range(2):  # with a step in between, so that health does not take the call for stuck
            self.await_start(STARTING_SECONDS / 2)
            progress.step()
        return self.state in ("starting", "restoring")

    def _fail(self, error: EventVaultError) -> None:
        if str(error) != str(self._bus.problem):
            log.error("%s (%s)", error, error.hint)
        self._bus.problem = self._failure = error
        self.state = "failed"

    def _tick(self) -> None:
        with running("work of each second") as activity:
            while not self._stopping.wait(TICK_SECONDS):
                activity.step()
                self._do_each_second()
                if self._may_open_now():
                    with self._swapping.held_if_free() as is_held:
                        if is_held and self._may_open_now():
                            self.try_to_open()

    def _do_each_second(self) -> None:
        """Do the periodic work. No error ends the ticker; an error that repeats is logged once."""
        try:
            self._each_second()
        except Exception as error:
            if str(error) != self._ticker_error:
                is_expected = isinstance(error, (EventVaultError, *SYSTEM_ERRORS))
                log.warning("the work of each second failed: %s", error, exc_info=None if is_expected else error)
            self._ticker_error = str(error)
        else:
            self._ticker_error = ""

    def _may_open_now(self) -> bool:
        """Return whether to try again to open the database: useless for a damaged one, wrong while another thread does.

        A start may also have failed after it had opened the database.
        """
        if self._bus.is_closing or isinstance(self._bus.problem, DatabaseDamaged):
            return False
        if not self._bus.is_writable:
            return self.state in ("failed", "serving")
        return self.state == "failed" and self._served == self._serves_whole


def _restoring() -> StoreRestoring:
    return StoreRestoring("the store is starting or restoring", hint="try again in a few seconds; GET /api/health")
