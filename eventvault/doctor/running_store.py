"""Asks the running store over its socket, and finds out who holds the database. It starts and ends no store."""

from __future__ import annotations

import os
import time
from contextlib import closing, suppress

import msgspec

from eventvault import clock
from eventvault.doctor.facts import Lock, StoreAnswer
from eventvault.errors import EventVaultError, Forbidden
from eventvault.rpc import frames, sockets
from eventvault.settings import Settings
from eventvault.store.process.last_words import read_last_words
from eventvault.store.process.ownership import find_owner, is_stopped
from eventvault.store.rpc import wire

ANSWER_SECONDS = 3.0
"""How long a store has for each answer; health takes a second at most."""
_SHOWN_LINES = 20


def ask_store(settings: Settings) -> StoreAnswer:
    """Return what the store answers. Raises Forbidden if its socket belongs to another user."""
    try:
        connection = sockets.connect(settings.storage_dir, ANSWER_SECONDS)
    except PermissionError as error:
        raise Forbidden(
            f"the socket of the store in {settings.storage_dir} is not for this user",
            hint="run this as the user of the service",
        ) from error
    except TimeoutError:
        return StoreAnswer(state="silent")
    except OSError:
        return StoreAnswer()
    with closing(connection):
        frames.set_deadline(connection, ANSWER_SECONDS)
        try:
            frames.send(connection, wire.request("hello"))
            hello = wire.read_reply("hello", frames.receive(connection))
        except TimeoutError:
            return StoreAnswer(state="silent")
        except (OSError, msgspec.MsgspecError, EventVaultError):
            return StoreAnswer(state="other version")
        who = StoreAnswer(state="answers", pid=hello.pid, version=hello.version, mode=hello.mode)
        if hello.protocol != wire.PROTOCOL:
            return msgspec.structs.replace(who, state="other version")
        try:
            frames.send(connection, wire.request("status"))
            return msgspec.structs.replace(who, status=wire.read_reply("status", frames.receive(connection)))
        except TimeoutError:
            return msgspec.structs.replace(who, state="silent")
        except EventVaultError as error:
            return msgspec.structs.replace(who, error=error.message)
        except (OSError, msgspec.MsgspecError) as error:
            return msgspec.structs.replace(who, error=str(error) or "it ended before it answered")


def look_at_lock(settings: Settings) -> Lock:
    """Return who holds `owner.lock`. Raises OSError."""
    owner = find_owner(settings.storage_dir)
    if owner is None:
        return Lock()
    stopped = owner.pid is not None and is_stopped(owner.pid)
    return Lock(True, owner.pid, None if not owner.born else _instant_of(owner.born), stopped)


def look_at_last_words(settings: Settings) -> str:
    """Return the first lines of what the previous store wrote when it died; empty if it wrote nothing."""
    lines = read_last_words(settings.storage_dir).decode(errors="replace").splitlines()
    return "\n".join(lines[:_SHOWN_LINES])


def _instant_of(ticks: int) -> int | None:
    """Return the instant of a number of ticks since the boot; None if the clock cannot be read."""
    with suppress(OSError, ValueError):
        passed = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return clock.system_now() - round(passed * 1e6)
    return None
