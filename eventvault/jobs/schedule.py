"""Jobs that are submitted at set times: once per firing, whatever the clock does and however often the service starts.

The id of a firing's job is made of its schedule and its instant. The job is written in one batch with the firing. After
a pause, only the newest missed firing is made, if it is not too old. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec

from eventvault import clock
from eventvault.errors import InvalidInput, JobScheduleInCode, JobScheduleNotFound
from eventvault.jobs import keys
from eventvault.jobs.job import MAX_SCHEDULE_NAME_LENGTH, JobRequest, JobSchedule
from eventvault.jobs.ledger import Ledger
from eventvault.schedules import CRON_ALLOWED, ZONE_ALLOWED, Cron, History, Schedule, parse_zone

Submit = Callable[[JobRequest, str], object]
"""Accepts the job of a firing, which has an id, and the schedule's name."""
_encoder = msgspec.json.Encoder()
_FIRST_STEP = 60_000_000
_NAME_TOO_LONG = (
    f"It has more than {MAX_SCHEDULE_NAME_LENGTH} characters: choose a shorter one, as it is part of its jobs' ids."
)
_LONGEST_CATCH_UP = 1e9
"""Seconds. A worker may declare any number."""


class StoredSchedule(msgspec.Struct, frozen=True):
    """A schedule in `jobs_db`, with the history of its firings."""

    schedule: JobSchedule
    history: History = History()


class Schedules:
    """All schedules. next_firing: the earliest of all; None if there is none. now: an instant."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._stored: dict[str, StoredSchedule] = {}
        self._next_firing: int | None = None
        self._has_changed = False
        """Whether `next_firing` must be computed again."""
        self._checked = 0

    @property
    def next_firing(self) -> int | None:
        if self._has_changed:
            active = [stored.schedule for stored in self._stored.values() if not stored.schedule.is_paused]
            self._next_firing = min((schedule.next for schedule in active if schedule.next is not None), default=None)
            self._has_changed = False
        return self._next_firing

    def load(self) -> None:
        for key, value in self._ledger.changes.scan(keys.SCHEDULE, keys.end_of(keys.SCHEDULE)):
            self._stored[key[1:].decode()] = msgspec.json.decode(value, type=StoredSchedule)
        self._next_firing = 0 if self._stored else None

    def put(self, schedule: JobSchedule, now: int) -> JobSchedule:
        """Create the schedule, or replace the one with its name.

        Raises InvalidInput if the zone or cron is not valid or never fires; JobScheduleInCode.
        """
        before = self._stored.get(schedule.name)
        if before is not None and before.schedule.in_code and not schedule.in_code:
            raise declared_in_code(schedule.name)
        when = when_of(schedule)
        history = History() if before is None or _when_or_none(before.schedule) != when else before.history
        if before is not None:
            old = before.schedule
            schedule = msgspec.structs.replace(schedule, last=old.last, last_job=old.last_job, skipped=old.skipped)
        return self._store(schedule, history.at(now), now)

    def take_over(self, stored: StoredSchedule, now: int) -> None:
        """Take over a schedule of another `jobs_db`, with the history of its firings."""
        if stored.schedule.name not in self._stored:
            self._store(stored.schedule, stored.history.at(now), now)

    def delete(self, name: str) -> None:
        """Remove a schedule. Raises JobScheduleNotFound, or JobScheduleInCode."""
        stored = self._stored.get(name)
        if stored is None:
            raise not_found(name)
        if stored.schedule.in_code:
            raise declared_in_code(name)
        self._remove(name)

    def declare(self, types: set[str], declared: list[JobSchedule], now: int) -> None:
        """Take over the schedules in a worker's code. Remove those of its types that it no longer declares."""
        names = {schedule.name for schedule in declared}
        for name, stored in list(self._stored.items()):
            if stored.schedule.in_code and stored.schedule.type in types and name not in names:
                self._remove(name)
        for schedule in declared:
            if schedule.type not in types:
                continue
            before = self._stored.get(schedule.name)
            new = msgspec.structs.replace(_declaration(schedule), in_code=True)
            try:
                if before is None or _declaration(before.schedule) != _declaration(new):
                    self.put(new, now)
            except InvalidInput:
                continue

    def fire_due(self, now: int, submit: Submit) -> None:
        if self.next_firing is None or (self._checked <= now < self.next_firing):
            return
        self._checked = now
        for name, stored in list(self._stored.items()):
            self._fire(name, stored, now, submit)
        self._has_changed = True

    def _fire(self, name: str, stored: StoredSchedule, now: int, submit: Submit) -> None:
        schedule, when = stored.schedule, _when_or_none(stored.schedule)
        if when is None:
            if schedule.next is not None:
                self._store(schedule, stored.history, now)
            return None
        history = stored.history.at(now)
        firing = history.next_firing(when, now)
        if firing is None or firing > now or schedule.is_paused:
            if history != stored.history or schedule.next != firing:
                self._store(schedule, history, now)
            return None
        newest = newest_firing(when, firing, now)
        if now - newest > round(min(schedule.catch_up, _LONGEST_CATCH_UP) * 1e6):
            return self._note_firing(schedule, history, newest, None, now)
        if not schedule.overlap and schedule.last_job is not None:
            job = self._ledger.job(schedule.last_job)
            if job is not None and not job.is_final:
                skipped = msgspec.structs.replace(schedule, skipped=schedule.skipped + 1)
                return self._note_firing(skipped, history, newest, None, now)
        request = JobRequest(type=schedule.type, id=id_of_firing(name, newest), payload=schedule.payload)
        submit(request, name)
        return self._note_firing(schedule, history, newest, request.id, now)

    def _note_firing(self, schedule: JobSchedule, history: History, firing: int, job_id: str | None, now: int) -> None:
        """Note that a firing is over. job_id: None if it was skipped."""
        history = history.fired(when_of(schedule), firing, now)
        last_job = schedule.last_job if job_id is None else job_id
        last = schedule.last if job_id is None else firing
        self._store(msgspec.structs.replace(schedule, last=last, last_job=last_job), history, now)

    def _store(self, schedule: JobSchedule, history: History, now: int) -> JobSchedule:
        when = _when_or_none(schedule)
        following = None if when is None else history.next_firing(when, now)
        schedule = msgspec.structs.replace(schedule, next=following)
        self._stored[schedule.name] = StoredSchedule(schedule, history)
        self._ledger.version += 1
        self._ledger.changes.put(keys.schedule_key(schedule.name), _encoder.encode(self._stored[schedule.name]))
        self._has_changed = True
        return schedule

    def _remove(self, name: str) -> None:
        del self._stored[name]
        self._ledger.changes.remove(keys.schedule_key(name))
        self._has_changed = True


def id_of_firing(name: str, firing: int) -> str:
    return f"cron/{name}/{clock.format_milliseconds(firing)}"


def when_of(schedule: JobSchedule) -> Schedule:
    """Return when a schedule fires. Raises InvalidInput for an invalid zone, cron or name, or if it never fires."""
    fields = {}
    if len(schedule.name) > MAX_SCHEDULE_NAME_LENGTH:
        fields["name"] = [_NAME_TOO_LONG]
    cron, zone = None, None
    with suppress(ValueError):
        cron = Cron(schedule.cron)
    if cron is None or not cron.is_on:
        fields["cron"] = [f"It must be {CRON_ALLOWED.removeprefix('off, or ')}."]
    try:
        zone = parse_zone(schedule.time_zone)
    except ValueError:
        fields["timeZone"] = [f"It must be {ZONE_ALLOWED}."]
    if fields or cron is None or zone is None:
        raise InvalidInput("the schedule is not valid", hint="`fields` says what is wrong", fields=fields)
    return Schedule(cron, zone)


def _when_or_none(schedule: JobSchedule) -> Schedule | None:
    """Return when a stored schedule fires; None if never, for instance because this machine no longer has its zone."""
    try:
        return when_of(schedule)
    except InvalidInput:
        return None


def newest_firing(when: Schedule, firing: int, now: int) -> int:
    """Return the last firing up to `now`. firing: any firing up to `now`."""
    step = _FIRST_STEP
    while now - step > firing:
        later = when.next_after(now - step)
        if later is not None and later <= now:
            firing = later
            break
        step *= 2
    while (following := when.next_after(firing)) is not None and following <= now:
        firing = following
    return firing


def _declaration(schedule: JobSchedule) -> JobSchedule:
    """Return the part of a schedule that a worker declares, without its state."""
    return msgspec.structs.replace(
        schedule,
        next=None,
        last=None,
        last_job=None,
        skipped=0,
        is_paused=False,
        payload=msgspec.Raw(bytes(schedule.payload)),
    )


def not_found(name: str) -> JobScheduleNotFound:
    return JobScheduleNotFound(
        f"there is no schedule {name!r}", hint="GET /api/jobs/schedules lists those that there are"
    )


def declared_in_code(name: str) -> JobScheduleInCode:
    return JobScheduleInCode(
        f"the schedule {name} is declared in the code of a worker; nothing was changed",
        hint="change it there and start the worker again, or choose another name",
    )
