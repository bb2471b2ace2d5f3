"""Operation ids as people type them: a unique beginning is enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.store_retry import retry_while_store_is_away
from eventvault.errors import InvalidInput, OperationNotFound
from eventvault.operations.entry import MAX_PAGE, OperationQuery

if TYPE_CHECKING:
    from eventvault.store.ports.store import Store

_LENGTH = 16
_SHOWN = 5


def whole_id(store: Store, beginning: str) -> str:
    """Return the only id that begins with this text. Raises OperationNotFound, or InvalidInput if several do."""
    if len(beginning) >= _LENGTH:
        return beginning
    matches = [operation_id for operation_id in _ids(store) if operation_id.startswith(beginning)]
    if len(matches) > 1:
        shown = ", ".join(matches[:_SHOWN]) + (", …" if len(matches) > _SHOWN else "")
        raise InvalidInput(f"{len(matches):,} operations begin with {beginning!r}: {shown}", hint="type more of the id")
    if not matches:
        raise OperationNotFound(f"no operation begins with {beginning!r}", hint="flask operations shows them")
    return matches[0]


def _ids(store: Store) -> list[str]:
    ids: list[str] = []
    while True:
        before = ids[-1] if ids else None
        query = OperationQuery(limit=MAX_PAGE, before=before)
        page = retry_while_store_is_away(lambda query=query: store.list_operations(query))  # type: ignore[misc]
        ids += [entry.id for entry in page]
        if len(page) < MAX_PAGE:
            return ids
