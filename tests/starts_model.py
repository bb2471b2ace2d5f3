"""A model of starts that overlap: who owns `restore/`, the staged restore, the intent, the lock and the socket.

`docs/starts.md` has the same transitions in words. A state is a value; `steps` returns all states that can follow. A
rule can be switched off, which shows what it is there for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

RULES = frozenset({"announce", "own store", "master", "remember"})
"""announce: a start announces itself before it ends the store of another one. own store: it ends other stores until it
has its own, and lets nobody else start one meanwhile. master: a store whose master has ended gives the lock up.
remember: a take-over restores nothing."""


class Store(NamedTuple):
    """A store process. at: its next step. service: the start that it belongs to. begun: the starts it works for.

    earlier: it runs a version without the rules "announce" and "master".
    """

    service: str
    at: str = "lock"
    earlier: bool = False
    asked_to_end: bool = False
    begun: frozenset[str] = frozenset()


class Starter(NamedTuple):
    """`BackupManager.initialize` of a start (`start`), or a worker that misses its store (`worker`)."""

    service: str
    kind: str
    at: str = "begin"
    target: int | None = None
    earlier: bool = False


class State(NamedTuple):
    """events: those acknowledged since the database was replaced, each with the starts that were served then.

    dropped, staged, intent: what waits in `restore/`, is staged, is decided. later: what an operator puts into
    `restore/` once a start is ready, for the next one. decided_for: the starts that the intent belongs to. forked: the
    starts that have workers. applied: what was restored, in order. violation: what must never happen.
    """

    stores: tuple[Store | None, ...] = ()
    starters: tuple[Starter | None, ...] = ()
    socket: int | None = None
    owner: int | None = None
    spawn_lock: int | None = None
    initialize_lock: int | None = None
    dead: frozenset[str] = frozenset()
    announced: frozenset[str] = frozenset()
    remembered: frozenset[str] = frozenset()
    dropped: str | None = "archive"
    staged: str | None = "staged"
    later: str | None = "later"
    intent: str | None = None
    decided_for: frozenset[str] = frozenset()
    forked: frozenset[str] = frozenset({"old"})
    applied: tuple[str, ...] = ()
    events: frozenset[frozenset[str]] = frozenset()
    posts: int = 1
    kills: int = 1
    processes: int = 4
    violation: str | None = None


class Model:
    def __init__(self, rules: frozenset[str] = RULES) -> None:
        self._rules = rules

    def reachable(self, first: State) -> Iterator[State]:
        """Every state that any interleaving leads to, with a kill at any step."""
        seen, rest = {first}, [first]
        while rest:
            state = rest.pop()
            yield state
            for following in self.steps(state):
                if following not in seen:
                    seen.add(following)
                    rest.append(following)

    def steps(self, state: State) -> Iterator[State]:
        if state.violation:
            return
        if state.later and state.dropped is None and _ready(state):
            yield state._replace(dropped=state.later, later=None)
        for number, store in enumerate(state.stores):
            if store is not None:
                yield from self._store_steps(state, number, store)
                if state.kills:
                    yield _end_store(state._replace(kills=state.kills - 1), number)
        for number, starter in enumerate(state.starters):
            if starter is not None:
                yield from self._starter_steps(state, number, starter)
                if state.kills and starter.kind == "start":
                    yield _kill_service(state._replace(kills=state.kills - 1), number, starter)

    def _store_steps(self, state: State, number: int, store: Store) -> Iterator[State]:
        if store.asked_to_end and store.at not in ("lock", "master"):
            yield _end_store(state, number)
        match store.at:
            case "lock":
                if state.owner is None:
                    yield _move(state._replace(owner=number), number, "master")
                else:
                    yield _end_store(state, number)
            case "master":
                dead = store.service in state.dead
                if "master" in self._rules and not store.earlier and dead:
                    yield _end_store(state, number)
                else:
                    yield self._begin(state, number, store)
            case "listen":
                yield _move(state._replace(socket=number), number, "finish")
            case "finish":
                yield from self._finish(state, number, "staged" if store.begun else "remember")
            case "staged":
                decided = state._replace(intent=state.staged, staged=None, decided_for=store.begun)
                yield _move(decided, number, "finish staged")
            case "finish staged":
                yield from self._finish(state, number, "dropped")
            case "dropped":
                yield _move(state._replace(intent=state.dropped, decided_for=store.begun), number, "finish dropped")
            case "finish dropped":
                yield from self._finish(state, number, "remember")
            case "remember":
                remembered = state.remembered | store.begun if "remember" in self._rules else state.remembered
                announced = state.announced - store.begun
                yield _move(state._replace(remembered=remembered, announced=announced), number, "serve")
            case "serve":
                if state.posts and state.socket == number and not store.asked_to_end:
                    yield state._replace(posts=state.posts - 1, events=state.events | {_ready(state)})

    def _begin(self, state: State, number: int, store: Store) -> State:
        """Find out which starts this store works for."""
        alive = {start for start in state.announced if start not in state.dead and not store.earlier}
        starts = frozenset({store.service, *alive}) - state.remembered
        if starts and starts <= state.dead and any(state.events):
            return state._replace(violation="a store restores for a start that is dead")
        return _move(state, number, "listen", begun=starts)

    def _finish(self, state: State, number: int, following: str) -> Iterator[State]:
        """Swap, as the intent says, then remove the archive and the intent. A kill may come between the two."""
        if state.intent is None:
            yield _move(state, number, following)
        elif not state.applied or state.applied[-1] != state.intent:
            yield _apply(state, state.intent)
        else:
            dropped = None if state.dropped == state.intent else state.dropped
            yield _move(state._replace(intent=None, dropped=dropped), number, following)

    def _starter_steps(self, state: State, number: int, starter: Starter) -> Iterator[State]:
        steps = self._start_steps if starter.kind == "start" else self._worker_steps
        yield from steps(state, number, starter)

    def _start_steps(self, state: State, number: int, starter: Starter) -> Iterator[State]:
        match starter.at:
            case "begin":
                if state.initialize_lock is None:
                    yield _step(state._replace(initialize_lock=number), number, "announce")
            case "announce":
                fresh = "announce" in self._rules and starter.service not in state.remembered
                announced = state.announced | {starter.service} if fresh else state.announced
                yield _step(state._replace(announced=announced), number, "take")
            case "take":
                if state.spawn_lock is None:
                    taken = state._replace(spawn_lock=number) if "own store" in self._rules else state
                    yield _step(taken, number, "look")
            case "look":
                yield from self._look(state, number, starter)
            case "await end":
                if starter.target is None or state.stores[starter.target] is None:
                    yield _step(state, number, "look" if "own store" in self._rules else "start")
            case "start":
                if state.socket is None:
                    yield _start_store(state, number, starter, "await store")
                else:
                    yield _step(state, number, "look") if "own store" in self._rules else _released(state, number)
            case "await store":
                gone = starter.target is None or state.stores[starter.target] is None
                if state.socket is not None or gone:
                    yield _step(state, number, "look") if "own store" in self._rules else _released(state, number)

    def _look(self, state: State, number: int, starter: Starter) -> Iterator[State]:
        store = state.stores[state.socket] if state.socket is not None else None
        if store is None or state.socket is None:
            yield _step(state, number, "start")
        elif store.service == starter.service:
            yield _released(state, number)
        else:
            asked = _move(state, state.socket, store.at, asked_to_end=True)
            yield _step(asked, number, "await end", target=state.socket)

    def _worker_steps(self, state: State, number: int, starter: Starter) -> Iterator[State]:
        match starter.at:
            case "begin":
                if state.socket is None and state.spawn_lock is None and starter.service in state.forked:
                    yield _step(state._replace(spawn_lock=number), number, "start")
            case "start":
                if state.socket is None:
                    yield _start_store(state, number, starter, "await store")
                else:
                    yield _step(state, number, "release")
            case "await store":
                gone = starter.target is None or state.stores[starter.target] is None
                if state.socket is not None or gone:
                    yield _step(state, number, "release")
            case "release":
                yield _step(state._replace(spawn_lock=None), number, "end")


def _ready(state: State) -> frozenset[str]:
    """The starts that are ready and live."""
    return frozenset(starter.service for starter in state.starters if starter and starter.at == "ready")


def _released(state: State, number: int) -> State:
    starter = state.starters[number]
    assert starter is not None
    forked = state.forked | {starter.service}
    return _step(state._replace(spawn_lock=None, initialize_lock=None, forked=forked), number, "ready")


def _apply(state: State, what: str) -> State:
    """Replace the database. Each archive is applied once, and never over an event since its start is ready."""
    violation = None
    if what in state.applied:
        violation = f"{what} is applied twice"
    elif any(ready & state.decided_for for ready in state.events):
        violation = f"{what} replaces an event that was acknowledged after its start was ready"
    return state._replace(applied=(*state.applied, what), events=frozenset(), violation=violation)


def _move(state: State, number: int, at: str, **changes: object) -> State:
    store = state.stores[number]
    assert store is not None
    moved = store._replace(at=at, **changes)  # type: ignore[arg-type]
    return state._replace(stores=(*state.stores[:number], moved, *state.stores[number + 1 :]))


def _step(state: State, number: int, at: str, **changes: object) -> State:
    starter = state.starters[number]
    assert starter is not None
    moved = starter._replace(at=at, **changes)  # type: ignore[arg-type]
    return state._replace(starters=(*state.starters[:number], moved, *state.starters[number + 1 :]))


def _start_store(state: State, number: int, starter: Starter, at: str) -> State:
    if not state.processes:
        return _step(state, number, "given up")
    store = Store(starter.service, earlier=starter.earlier)
    started = state._replace(stores=(*state.stores, store), processes=state.processes - 1)
    return _step(started, number, at, target=len(state.stores))


def _end_store(state: State, number: int) -> State:
    """Its locks are free, and nobody listens behind its socket any more."""
    return state._replace(
        stores=(*state.stores[:number], None, *state.stores[number + 1 :]),
        owner=None if state.owner == number else state.owner,
        socket=None if state.socket == number else state.socket,
    )


def _kill_service(state: State, number: int, starter: Starter) -> State:
    """Kill the master while it starts, or later. Its workers live on for a while."""
    return state._replace(
        starters=(*state.starters[:number], None, *state.starters[number + 1 :]),
        dead=state.dead | {starter.service},
        spawn_lock=None if state.spawn_lock == number else state.spawn_lock,
        initialize_lock=None if state.initialize_lock == number else state.initialize_lock,
    )
