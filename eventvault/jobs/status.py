"""Makes `jobQueue` of health from the machine's memory. Any thread may ask while the machine decides."""

from __future__ import annotations

from eventvault.errors import EventVaultError
from eventvault.jobs.database import JobsDatabase
from eventvault.jobs.machine import Machine
from eventvault.jobs.port import QueueStatus
from eventvault.jobs.transport import DispatcherTransport
from eventvault.problems import Problem

UNKNOWN_SECONDS = 60.0
"""How long jobs may wait for a worker that knows their type before health reports it."""
MAX_NAMES = 10
_RESUME = "`flask jobs resume`, or POST /api/jobs/resume"


def status_of(
    machine: Machine, transport: DispatcherTransport, database: JobsDatabase, fault: EventVaultError | None = None
) -> QueueStatus:
    """Return the state and the problems of the queue. fault: why nothing is sent now."""
    queue = machine.queue
    sessions = list(queue.sessions.values())
    states = {state: count for state, count in list(queue.ledger.counts.states.items()) if count}
    return QueueStatus(
        workers=len(sessions),
        slots=sum(session.concurrency for session in sessions),
        waiting=states.get("pending", 0),
        running=states.get("running", 0) + states.get("sent", 0),
        dead=states.get("dead", 0),
        held=states.get("held", 0),
        oldest_waiting=machine.upkeep.oldest_waiting,
        states=states,
        refused_reports=queue.ledger.counts.refused,
        broker=transport.is_connected(),
        problems=[
            *_of_fault(fault),
            *_of_database(database),
            *_of_transport(transport),
            *_of_unknown_types(machine),
            *_of_held(machine, states.get("held", 0), is_old=database.lacks_changes or transport.is_rewound()),
        ],
    )


def _of_transport(transport: DispatcherTransport) -> list[Problem]:
    problems = transport.problems()
    if transport.is_rewound() and all(problem.code != "jobs_rewound" for problem in problems):
        message = "jobs_db is an old copy: the topics of jobs have later reports"
        problems.append(Problem("jobs_rewound", message, f"put the newest jobs_db back, or accept this one: {_RESUME}"))
    return problems


def _of_fault(fault: EventVaultError | None) -> list[Problem]:
    if fault is None:
        return []
    message = f"jobs are accepted, but none is sent to a worker: {fault.message}"
    return [Problem("jobs_not_sent", message, f"{fault.hint}; it is retried automatically")]


def _of_database(database: JobsDatabase) -> list[Problem]:
    damage = database.damage
    problems = [] if damage is None else [Problem(damage.code, damage.message, damage.hint)]
    if database.lacks_changes:
        message = "the end of the log of jobs_db was damaged: the newest changes are lost, and jobs may run twice"
        problems.append(Problem("jobs_rewound", message, f"check the newest jobs, then {_RESUME}"))
    if (unsettled := database.unsettled) is not None:
        message = f"{unsettled.message}; the next start would hold all jobs again"
        problems.append(Problem(unsettled.code, message, unsettled.hint))
    return problems


def _of_held(machine: Machine, held: int, *, is_old: bool) -> list[Problem]:
    """is_old: another problem already says that nothing is sent."""
    if not held and (is_old or not machine.queue.is_held):
        return []
    what, them = ("1 job is held", "it") if held == 1 else (f"{held} jobs are held", "them")
    message = f"{what}: jobs_db was lost, and a copy in BACKUP_DIR brought {them} back"
    if not held:
        message = "no job is sent before a resume: jobs_db was lost or lacks its newest changes"
    return [Problem("jobs_held", message, f"cancel the jobs that have run since, then {_RESUME}")]


def _of_unknown_types(machine: Machine) -> list[Problem]:
    unknown = dict(machine.upkeep.unknown)
    late = sorted(name for name, since in unknown.items() if machine.queue.now - since >= UNKNOWN_SECONDS * 1e6)
    if not late:
        return []
    names = ", ".join(late[:MAX_NAMES]) + (", …" if len(late) > MAX_NAMES else "")
    return [
        Problem(
            "jobs_wait_for_worker",
            f"jobs wait for a worker that runs their type: {names}",
            "start a worker whose WORKER_JOBS has handlers for these types",
            since=min(unknown[name] for name in late),
        )
    ]
