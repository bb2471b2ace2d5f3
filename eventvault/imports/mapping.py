"""The mapping of a table's columns to an event's attributes: `type=kind,subject=order_id,data.total:number=amount`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from eventvault import json_text
from eventvault.errors import EventVaultError, InvalidInput
from eventvault.events.event import EXTENSION_NAME
from eventvault.events.schema import EventSchema

KINDS = ("text", "number", "boolean", "json")
_ATTRIBUTES = frozenset(EventSchema().fields) - {"data_base64"}
_TARGET = re.compile(rf"(data(?:\.[^.:=,]+)*|{EXTENSION_NAME})(?::([a-z]+))?")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
_HINT = (
    "write it as type=kind,subject=order_id,data.total:number=amount, with a fixed value in quotes: "
    'type="order.created"'
)


class Field(msgspec.Struct, frozen=True):
    """target: the parts of `type` or `data.total`. column: the column of its cell; None: it gets `value`.

    kind: of KINDS, the type of its value.
    """

    target: tuple[str, ...]
    column: str | None
    kind: str = "text"
    value: Any = None


class Mapping(msgspec.Struct, frozen=True):
    fields: tuple[Field, ...]


def parse(text: str) -> Mapping:
    """Return the mapping that a text of `--map` describes. Raises InvalidInput."""
    fields = []
    for part in text.split(","):
        target, equals, source = part.partition("=")
        if not equals or not source:
            raise InvalidInput(f"{part[:80]!r} maps no column to an attribute", hint=_HINT)
        fixed = len(source) > 1 and source[0] == source[-1] == '"'
        fields.append(_field(target.strip(), source[1:-1] if fixed else source, fixed=fixed))
    return _check(fields)


def parse_file(content: bytes) -> Mapping:
    """Return the mapping of a JSON file. Raises InvalidInput.

    The file has an object: attribute → column, `{"column": …, "as": "number"}`, or `{"value": …}`.
    """
    try:
        members = msgspec.json.decode(content, type=dict[str, str | _Source])
    except msgspec.MsgspecError as error:
        raise InvalidInput(
            f"the mapping cannot be understood: {error}",
            hint='write it as {"type": "kind", "data.total": {"column": "amount", "as": "number"}, "source": {"value": '
            '"/erp"}}',
        ) from None
    fields = []
    for target, source in members.items():
        if isinstance(source, str):
            fields.append(_field(target, source, fixed=False))
        elif (source.column is None) == (source.value is msgspec.UNSET):
            raise InvalidInput(f"{target[:80]!r} has no column and no value, or both", hint="give one of them")
        elif source.column is None:
            fields.append(_field(target, source.value, fixed=True))
        else:
            fields.append(
                _field(target if source.kind is None else f"{target}:{source.kind}", source.column, fixed=False)
            )
    return _check(fields)


class _Source(msgspec.Struct, forbid_unknown_fields=True):
    column: str | None = None
    kind: str | None = msgspec.field(name="as", default=None)
    value: Any = msgspec.UNSET


def by_names(columns: Sequence[str]) -> Mapping:
    """Return the mapping of a table whose columns have the names of attributes. Raises InvalidInput for other names."""
    other = [column for column in columns if _TARGET.fullmatch(column) is None]
    if other or "type" not in columns:
        what = f"the column {other[0][:80]!r} is not an attribute of an event" if other else "no column is called type"
        raise InvalidInput(f"{what}, and nothing was imported", hint=f"say what the columns are with --map: {_HINT}")
    return _check([_field(column, column, fixed=False) for column in columns])


def _field(name: str, source: Any, *, fixed: bool) -> Field:
    match = _TARGET.fullmatch(name)
    if match is None or (match[2] or "text") not in KINDS:
        raise InvalidInput(
            f"{name[:80]!r} is not an attribute of an event",
            hint=f"attributes are {', '.join(sorted(_ATTRIBUTES))}, data.<name>, and extensions; {_KINDS_HINT}",
        )
    return Field(tuple(match[1].split(".")), None if fixed else source, match[2] or "text", source if fixed else None)


_KINDS_HINT = "after a colon: :number, :boolean or :json"


def _check(fields: list[Field]) -> Mapping:
    targets = [field.target for field in fields]
    for target in targets:
        name = ".".join(target)
        if targets.count(target) > 1:
            raise InvalidInput(f"{name} is mapped twice", hint="map each attribute once")
        if any(len(other) > len(target) and other[: len(target)] == target for other in targets):
            raise InvalidInput(f"{name} is mapped, and so is a member of it", hint="map one of them")
    if ("type",) not in targets:
        raise InvalidInput("no column is mapped to type, which each event must have", hint=_HINT)
    return Mapping(tuple(fields))


def value_of(cell: str, kind: str) -> Any:
    """Return the value of a cell. A number keeps every digit. Raises ValueError that says what the cell is not."""
    if kind == "text":
        return cell
    if kind == "boolean":
        if cell.strip().lower() not in _BOOLEANS:
            raise ValueError("is not a boolean: true, false, yes, no, 1 or 0")
        return _BOOLEANS[cell.strip().lower()]
    if kind == "number":
        if not _NUMBER.fullmatch(cell.strip()):
            raise ValueError("is not a number")
        return orjson.Fragment(cell.strip())
    try:
        return orjson.Fragment(json_text.read(cell.encode())[1])
    except (EventVaultError, UnicodeEncodeError):
        raise ValueError("is not JSON") from None
