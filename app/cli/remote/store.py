"""The store of a service on another machine, through the ports that `eventvault.store.ports` declares.

Long work is begun without waiting for its end and then polled, so that no request lasts long, whatever a proxy allows.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any, Self

import msgspec

from app.cli.remote import answers, errors
from app.cli.remote.answers import Reader
from app.cli.remote.calls import ARCHIVE, CALLS, NOT_OVER_HTTP, page_of
from app.cli.remote.files import Download, upload_request
from app.cli.remote.following import NoLease, await_change, position_of
from app.cli.remote.past import PastPages
from app.cli.remote.transport import Request, Transport
from eventvault.backups.entry import BackupEntry
from eventvault.database.generation import is_id
from eventvault.database.values import Head, Page, Resumption, ScanQuery
from eventvault.errors import MomentUnavailable, OperationCancelled, from_wire
from eventvault.operations.caller import OperationBegun, current_caller
from eventvault.operations.entry import OperationEntry
from eventvault.operations.records import QUEUED, RUNNING, SUCCEEDED
from eventvault.past.values import DiffPage, DiffQuery, PastView
from eventvault.restore.values import Moment
from eventvault.rpc.methods import Method
from eventvault.store.ports import methods
from eventvault.store.ports.event_log import LONGEST_WAIT_SECONDS, Lease
from eventvault.store.ports.operations import WATCH_SECONDS
from eventvault.store.ports.store import Store

_POLLS = (0.0, 0.05, 0.1, 0.2, 0.3)
_SLOWEST_POLL = 0.5
"""Seconds between two polls of an operation: few at first, then these."""


_BEHIND_ALL = 2**62
"""The `upto` of an archive whose last sequence is unknown."""


class RemoteStore(Store):
    """Commands use it as they use the store over the socket. Methods that are one request are attached below."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self._past = PastPages(transport)
        self._polls: dict[str, tuple[int, float]] = {}
        """Operation → how often it was polled, and when last."""

    @classmethod
    def over(cls, transport: Transport) -> Self:
        """Return the store of a transport. The type checker takes the constructor for that of an abstract class."""
        return cls(transport)

    def close(self) -> None:
        self._past.close()
        self.transport.close()

    def read(self, request: Request, reader: Reader) -> Any:
        """Send a request, and return what the reader makes of its answer. Raises EventVaultError."""
        body = self.transport.call(request)
        try:
            return reader(body)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            raise errors.unreadable(str(request), str(error)) from None

    def one_request(self, method: Method, *arguments: Any, **named: Any) -> Any:
        """Call a method by the request that stands for it."""
        call = CALLS[method.name]
        values = dict(zip(method.argument_names, method.ordered(arguments, named), strict=True))
        request = call.request(**values)
        return self._operate(method, request) if method.marks.kind else self.read(request, call.read)

    # Long work

    def adopt_upload(self, temporary: str, name: str, sent: Callable[[int], None] = lambda _: None) -> BackupEntry:
        """Send a file of this machine, which does not change; the service checks it and adds it as `name`.

        sent: called with the number of bytes sent so far.
        """
        entry: BackupEntry = self._operate(methods.ALL["adopt_upload"], upload_request(temporary, name, sent))
        return entry

    def _operate(self, method: Method, request: Request) -> Any:
        entry: OperationEntry = self.read(request.with_query(async_=True), answers.one_operation)
        if current_caller().asynchronous:
            raise OperationBegun(entry.id)
        while entry.state in (QUEUED, RUNNING):
            entry = self.watch_operations({entry.id: entry.version}, WATCH_SECONDS).get(entry.id, entry)
        if entry.error is not None:
            raise from_wire(entry.error)
        if entry.state != SUCCEEDED or entry.result is None:
            raise OperationCancelled(f"the operation {entry.id} was {entry.state}", hint="nothing was changed")
        return msgspec.json.decode(entry.result, type=method.result_type)

    def watch_operations(self, versions: dict[str, int], seconds: float) -> dict[str, OperationEntry]:
        ends = time.monotonic() + min(seconds, WATCH_SECONDS)
        while True:
            changed = {}
            for operation_id, version in versions.items():
                self._pace(operation_id)
                entry = self.get_operation(operation_id)
                if entry.version != version:
                    changed[operation_id] = entry
            if changed or time.monotonic() >= ends:
                return changed

    def _pace(self, operation_id: str) -> None:
        """Wait until an operation may be polled again: while it runs, its bytes have changed at each poll."""
        count, last = self._polls.get(operation_id, (0, 0.0))
        pause = _POLLS[count] if count < len(_POLLS) else _SLOWEST_POLL
        time.sleep(max(0.0, last + pause - time.monotonic()))
        self._polls[operation_id] = count + 1, time.monotonic()

    # Moments

    def resolve_moment(self, moment: Moment) -> PastView:
        if moment == Moment():
            newest = self.scan(ScanQuery(newest_first=True, limit=1))
            return PastView(newest.generation, newest.last_sequence)
        if moment.archive is not None:
            entry: BackupEntry = self.one_request(methods.ALL["backup_entry"], moment.archive)
            return PastView(ARCHIVE + moment.archive, entry.sequence or _BEHIND_ALL, entry.generation)
        plan = self.plan_restore(moment)
        sequence, generation = plan.get("sequence"), plan.get("generation")
        if not isinstance(sequence, int) or not isinstance(generation, str):
            raise errors.unreadable("POST /api/backup/restore", "the plan names no sequence")
        return PastView(generation, sequence)

    def plan_restore(self, target: Moment | str, *, replay: bool = False) -> dict[str, Any]:
        plan: dict[str, Any] = self.one_request(methods.ALL["plan_restore"], self._with_end(target), replay=replay)
        return plan

    def restore_moment(
        self, moment: Moment, *, staged: bool = False, cancel_jobs: bool = False, replay: bool = False
    ) -> Any:
        how = {"staged": staged, "cancel_jobs": cancel_jobs, "replay": replay}
        return self.one_request(methods.ALL["restore_moment"], self._with_end(moment), **how)

    def rehearse(self, target: Moment | str | None = None) -> Any:
        return self.one_request(methods.ALL["rehearse"], None if target is None else self._with_end(target))

    def _with_end(self, target: Moment | str) -> Moment | str:
        """Return the target. A moment that names only a generation gets its last sequence, as a request needs one.

        Raises MomentUnavailable for a text that is not the id of a generation.
        """
        if isinstance(target, str) or target.archive is not None:
            return target
        if target.generation is not None and not is_id(target.generation):
            raise MomentUnavailable(
                f"there is no such moment: the generation {target.generation[:80]!r} is unknown",
                hint="GET /api/backup/timeline shows the generations",
                window=self.timeline()["window"],
            )
        if target.instant is not None or target.sequence is not None:
            return target
        for generation in self.timeline()["generations"]:
            if target.generation in (generation["id"], None if generation["present"] else ""):
                return msgspec.structs.replace(target, generation=generation["id"], sequence=generation["lastSequence"])
        return msgspec.structs.replace(target, sequence=0)  # the service says that it is unknown

    # Events

    def scan(self, query: ScanQuery) -> Page:
        """Return a page. Pages of a moment that follow each other are read from one answer."""
        if query.upto is not None and query.before is None and not query.newest_first:
            return self._past.page(query)
        page: Page = self.read(page_of(query), answers.page)
        return page

    def diff(self, query: DiffQuery) -> DiffPage:
        return self._past.diff(query)

    def lease_generation(self, generation: str) -> Lease:
        """Return a lease that does nothing: a service keeps what it reads for an answer."""
        return NoLease()

    def wait_for_events(self, seen: Head | None, seconds: float) -> Head:
        ends = time.monotonic() + min(seconds, LONGEST_WAIT_SECONDS)
        while True:
            newest = self.scan(ScanQuery(newest_first=True, limit=1))
            head = Head(newest.generation, newest.last_sequence)
            remaining = ends - time.monotonic()
            if seen != head or remaining <= 0:
                return head
            await_change(self.transport, head, remaining)

    def resume(self, reader: Head | None) -> Resumption:
        return position_of(self.transport, reader)

    # Files

    def download(self, name: str) -> Download:
        """Return the bytes of an archive, as a context."""
        return Download(self.transport, name)


def _one_request(method: Method) -> Callable[..., Any]:
    @functools.wraps(method.function)
    def call(self: RemoteStore, *arguments: Any, **named: Any) -> Any:
        return self.one_request(method, *arguments, **named)

    return call


def _refuse(method: Method, what: str) -> Callable[..., Any]:
    @functools.wraps(method.function)
    def call(*_: Any, **__: Any) -> Any:
        raise errors.not_over_http(what)

    return call


for _method in methods.ALL.values():
    if _method.name in NOT_OVER_HTTP:
        setattr(RemoteStore, _method.name, _refuse(_method, NOT_OVER_HTTP[_method.name]))
    elif _method.name not in vars(RemoteStore):
        call = _one_request(_method) if _method.name in CALLS else _refuse(_method, _method.name)
        setattr(RemoteStore, _method.name, call)
