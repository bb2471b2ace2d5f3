"""Jobs that are submitted at set times: each firing once, whatever the clock does and however often one starts.

A firing's job is named after its schedule and its instant, and is written in one batch with the firing. Of firings that
were missed the newest is made up for, if it is not too old. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from eventvault import clock
from eventvault.errors import InvalidInput, JobScheduleInCode, JobScheduleNotFound
from eventvault.jobs import asking, keys
from eventvault.jobs.checking import NAME_TOO_LONG
from eventvault.jobs.job import MAX_SCHEDULE_NAME_LENGTH, JobRequest, JobSchedule
from eventvault.schedules import CRON_ALLOWED, ZONE_ALLOWED, Cron, History, Schedule, parse_zone

if TYPE_CHECKING:
    from eventvault.jobs.machine import Machine

_encoder = msgspec.json.Encoder()
_FIRST_STEP = 60_000_000
_LONGEST_CATCH_UP = 1e9
"""Seconds; a worker may have said any number."""


class StoredSchedule(msgspec.Struct, frozen=True):
    """A schedule in `jobs_db`, and which of its firings are over."""

    schedule: JobSchedule
    history: History = History()


class Schedules:
    """All schedules of a machine. next_firing: the earliest of all; None if there is none."""

    def __init__(self) -> None:
        self._stored: dict[str, StoredSchedule] = {}
        self._next_firing: int | None = None
        self._has_changed = False
        """Whether the next firing is to be found again."""
        self._looked = 0

    @property
    def next_firing(self) -> int | None:
        if self._has_changed:
            on = [each.schedule for each in self._stored.values() if not each.schedule.is_paused]
            self._next_firing = min((schedule.next for schedule in on if schedule.next is not None), default=None)
            self._has_changed = False
        return self._next_firing

    def load(self, machine: Machine) -> None:
        for key, value in machine.ledger.changes.scan(keys.SCHEDULE, keys.behind(keys.SCHEDULE)):
            self._stored[key[1:].decode()] = msgspec.json.decode(value, type=StoredSchedule)
        self._next_firing = 0 if self._stored else None

    def put(self, machine: Machine, schedule: JobSchedule) -> JobSchedule:
        """Raises InvalidInput for a zone or cron that is none or never fires; JobScheduleInCode."""
        before = self._stored.get(schedule.name)
        if before is not None and before.schedule.in_code and not schedule.in_code:
            raise _in_code(schedule.name)
        when = when_of(schedule)
        history = History() if before is None or _when_or_none(before.schedule) != when else before.history
        if before is not None:
            known = before.schedule
            schedule = msgspec.structs.replace(
                schedule, last=known.last, last_job=known.last_job, skipped=known.skipped
            )
        return self._store(machine, schedule, history.at(machine.now))

    def take(self, machine: Machine, stored: StoredSchedule) -> None:
        if stored.schedule.name not in self._stored:
            self._store(machine, stored.schedule, stored.history.at(machine.now))

    def delete(self, machine: Machine, name: str) -> None:
        """Raises JobScheduleNotFound, or JobScheduleInCode."""
        stored = self._stored.get(name)
        if stored is None:
            raise JobScheduleNotFound(
                f"there is no schedule {name!r}", hint="GET /api/jobs/schedules lists those that there are"
            )
        if stored.schedule.in_code:
            raise _in_code(name)
        self._remove(machine, name)

    def declare(self, machine: Machine, types: set[str], declared: list[JobSchedule]) -> None:
        """Take over the schedules of a worker's code; those of its types that it does not declare any more end."""
        names = {schedule.name for schedule in declared}
        for name, stored in list(self._stored.items()):
            if stored.schedule.in_code and stored.schedule.type in types and name not in names:
                self._remove(machine, name)
        for schedule in declared:
            if schedule.type not in types:
                continue
            stored_before = self._stored.get(schedule.name)
            wanted = msgspec.structs.replace(_declaration(schedule), in_code=True)
            try:
                if stored_before is None or _declaration(stored_before.schedule) != _declaration(wanted):
                    self.put(machine, wanted)
            except InvalidInput:
                continue

    def fire_due(self, machine: Machine) -> None:
        """Submit the jobs of the firings that are due."""
        now = machine.now
        if self.next_firing is None or (self._looked <= now < self.next_firing):
            return
        self._looked = now
        for name, stored in list(self._stored.items()):
            self._fire(machine, name, stored)
        self._has_changed = True

    def _fire(self, machine: Machine, name: str, stored: StoredSchedule) -> None:
        schedule, when, now = stored.schedule, _when_or_none(stored.schedule), machine.now
        if when is None:
            if schedule.next is not None:
                self._store(machine, schedule, stored.history)
            return None
        history = stored.history.at(now)
        firing = history.next_firing(when, now)
        if firing is None or firing > now or schedule.is_paused:
            if history != stored.history or schedule.next != firing:
                self._store(machine, schedule, history)
            return None
        newest = newest_firing(when, firing, now)
        if now - newest > round(min(schedule.catch_up, _LONGEST_CATCH_UP) * 1e6):
            return self._fired(machine, schedule, history, newest, None)
        if not schedule.overlap and schedule.last_job is not None:
            job = machine.ledger.job(schedule.last_job)
            if job is not None and not job.is_final:
                skipped = msgspec.structs.replace(schedule, skipped=schedule.skipped + 1)
                return self._fired(machine, skipped, history, newest, None)
        request = JobRequest(type=schedule.type, id=id_of_firing(name, newest), payload=schedule.payload)
        asking.submit_one(machine, request, by="", origin="schedule", schedule=name)
        return self._fired(machine, schedule, history, newest, request.id)

    def _fired(
        self, machine: Machine, schedule: JobSchedule, history: History, firing: int, job_id: str | None
    ) -> None:
        history = history.fired(when_of(schedule), firing, machine.now)
        last_job = schedule.last_job if job_id is None else job_id
        last = schedule.last if job_id is None else firing
        self._store(machine, msgspec.structs.replace(schedule, last=last, last_job=last_job), history)

    def _store(self, machine: Machine, schedule: JobSchedule, history: History) -> JobSchedule:
        when = _when_or_none(schedule)
        following = None if when is None else history.next_firing(when, machine.now)
        schedule = msgspec.structs.replace(schedule, next=following)
        self._stored[schedule.name] = StoredSchedule(schedule, history)
        machine.ledger.version += 1
        machine.ledger.changes.put(keys.schedule_key(schedule.name), _encoder.encode(self._stored[schedule.name]))
        self._has_changed = True
        return schedule

    def _remove(self, machine: Machine, name: str) -> None:
        del self._stored[name]
        machine.ledger.changes.remove(keys.schedule_key(name))
        self._has_changed = True


def id_of_firing(name: str, firing: int) -> str:
    return f"cron/{name}/{clock.format_milliseconds(firing)}"


def when_of(schedule: JobSchedule) -> Schedule:
    """Raises InvalidInput for a zone or cron that is none or never fires, or too long a name."""
    fields = {}
    if len(schedule.name) > MAX_SCHEDULE_NAME_LENGTH:
        fields["name"] = [NAME_TOO_LONG]
    cron, zone = None, None
    try:
        cron = Cron(schedule.cron)
    except ValueError:
        fields["cron"] = [f"It must be {CRON_ALLOWED}."]
    try:
        zone = parse_zone(schedule.time_zone)
    except ValueError:
        fields["timeZone"] = [f"It must be {ZONE_ALLOWED}."]
    if fields or cron is None or zone is None:
        raise InvalidInput("the schedule is not valid", hint="`fields` says what is wrong", fields=fields)
    return Schedule(cron, zone)


def _when_or_none(schedule: JobSchedule) -> Schedule | None:
    """Return when a stored schedule fires; None if it never does, as its zone is not known here any more."""
    try:
        return when_of(schedule)
    except InvalidInput:
        return None


def newest_firing(when: Schedule, firing: int, now: int) -> int:
    """Return the last firing up to `now`. firing: one that is not later than that."""
    step = _FIRST_STEP
    while now - step > firing:
        found = when.next_after(now - step)
        if found is not None and found <= now:
            firing = found
            break
        step *= 2
    while (following := when.next_after(firing)) is not None and following <= now:
        firing = following
    return firing


def _declaration(schedule: JobSchedule) -> JobSchedule:
    return msgspec.structs.replace(
        schedule,
        next=None,
        last=None,
        last_job=None,
        skipped=0,
        is_paused=False,
        payload=msgspec.Raw(bytes(schedule.payload)),
    )


def _in_code(name: str) -> JobScheduleInCode:
    return JobScheduleInCode(
        f"the schedule {name} is declared in the code of a worker; nothing was changed",
        hint="change it there and start the worker again, or choose another name",
    )
