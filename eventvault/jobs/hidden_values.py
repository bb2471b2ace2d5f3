"""Hides the part of a payload that only an administrator may see: the values of a webhook's headers. Pure."""

from __future__ import annotations

import msgspec

from eventvault.jobs.job import JobSchedule
from eventvault.jobs.port import JobView

HIDDEN = "(hidden)"
_SECRET_MEMBERS = {"webhook": "headers"}
"""Type → the member of its payload whose values are hidden."""
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_hidden = msgspec.Raw(msgspec.json.encode(HIDDEN))


def payload_without_secrets(job_type: str, payload: msgspec.Raw) -> msgspec.Raw:
    """Return a payload with the names of its secret members, but without their values."""
    member = _SECRET_MEMBERS.get(job_type)
    if member is None:
        return payload
    try:
        members = _members.decode(payload)
    except msgspec.MsgspecError:  # it is not an object, so no worker accepts it
        return payload
    if member not in members:
        return payload
    return msgspec.Raw(msgspec.json.encode({**members, member: _without_values(members[member])}))


def view_without_secrets(view: JobView) -> JobView:
    if view.payload is None:
        return view
    return msgspec.structs.replace(view, payload=payload_without_secrets(view.job.type, view.payload))


def schedule_without_secrets(schedule: JobSchedule) -> JobSchedule:
    return msgspec.structs.replace(schedule, payload=payload_without_secrets(schedule.type, schedule.payload))


def _without_values(text: msgspec.Raw) -> msgspec.Raw:
    try:
        names = _members.decode(text)
    except msgspec.MsgspecError:
        return _hidden
    return msgspec.Raw(msgspec.json.encode(dict.fromkeys(names, HIDDEN)))
