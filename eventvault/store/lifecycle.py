"""Where a store is between its start and its end, and what a request meets there.

`starting` and `restoring` (a start that may take long) → `serving`, or `failed`, which is tried again as long as it may
still come to something → `stopping`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from eventvault.database.bus import EventBus
from eventvault.errors import (
    Cancelled,
    DatabaseDamaged,
    EventVaultError,
    StoreRestoring,
    StoreStopping,
    StoreUnavailable,
)

log = logging.getLogger("BackupManager")

TICK_SECONDS = 1.0
STARTING_SECONDS = 10.0
"""How long a request waits for a store that is opening the database, as one that takes over does."""
STOP_SECONDS = 3.0
"""How long a store that ends waits for a database that is just being opened."""


class Lifecycle:
    """swapping: held while the database is changed for another, and while a start is tried.

    prepare: what comes before the database is opened. open_database: opens it. on_serving: called once, when the store
    serves for the first time. each_second: what else is to be looked after.
    """

    def __init__(
        self,
        bus: EventBus,
        swapping: threading.Lock,
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
        self._serving = threading.Lock()
        """Held while the store comes to serve: a stop meets all that was begun then, or nothing is."""
        self._stopping = threading.Event()
        self._tried = threading.Event()

    def start(self, *, will_start_slowly: bool) -> None:
        """Bring the store to where it serves, or to where `state` says that it does not; it goes on trying then."""
        self.state = "restoring" if will_start_slowly else "starting"
        with self._swapping:
            self.try_to_open()
        self._tried.set()
        threading.Thread(target=self._tick, name="ticker", daemon=True).start()

    def stop(self) -> None:
        """Nothing is begun any more once this returns, unless the database takes longer to open than is waited."""
        self._stopping.set()
        came_to_it = self._serving.acquire(timeout=STOP_SECONDS)
        self.state = "stopping"
        if came_to_it:
            self._serving.release()

    def try_to_open(self) -> None:
        """The caller holds `swapping`."""
        try:
            self._prepare()
            self.serve()
        except Cancelled:
            self.state = "stopping"
        except EventVaultError as error:
            self._fail(error)
        except Exception as error:
            log.exception("the store cannot start")
            self._fail(EventVaultError(f"the store cannot start: {error}", hint="the log says more"))

    def serve(self) -> None:
        """Raises why the database cannot be opened, or Cancelled where the store is stopping."""
        with self._serving:
            if self._stopping.is_set():
                raise Cancelled("the store is stopping", hint="send the request again")
            self._open_database()
            self.state = "serving"
            if not self._served:
                self._served = True
                self._on_serving()

    def refusal(self) -> EventVaultError | None:
        """Why a request cannot be served now; None where it can."""
        if self._is_starting():
            return _restoring()
        if self.state == "serving":
            return None
        if self.state == "stopping":
            return StoreStopping("the store is stopping", hint="send the request again")
        return self._bus.problem or StoreUnavailable("the database is not open", hint="GET /api/health says why")

    def check(self) -> None:
        """Raises what `refusal` says."""
        refusal = self.refusal()
        if refusal is not None:
            raise refusal

    def check_started(self) -> None:
        """Raises StoreRestoring where the start is still under way; one that came to nothing is no obstacle."""
        if self._is_starting():
            raise _restoring()

    def _is_starting(self) -> bool:
        if self.state == "starting":
            self._tried.wait(STARTING_SECONDS)
        return self.state in ("starting", "restoring")

    def _fail(self, error: EventVaultError) -> None:
        if str(error) != str(self._bus.problem):
            log.error("%s (%s)", error, error.hint)
        self._bus.problem = error
        self.state = "failed"

    def _tick(self) -> None:
        while not self._stopping.wait(TICK_SECONDS):
            with contextlib.suppress(OSError):
                self._each_second()
            if self._worth_trying() and self._swapping.acquire(blocking=False):
                try:
                    if self._worth_trying():
                        self.try_to_open()
                finally:
                    self._swapping.release()

    def _worth_trying(self) -> bool:
        """A database that could not be opened may open later: a disk that was full, a lock that was held."""
        closed = self._bus.registry is None and self.state in ("failed", "serving")
        return closed and not isinstance(self._bus.problem, DatabaseDamaged)


def _restoring() -> StoreRestoring:
    return StoreRestoring("the store is starting or restoring", hint="try again in a few seconds; GET /api/health")
