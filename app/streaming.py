"""Long answers: one of unlimited size is read from the store page by page while it is sent, others need a slot."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import quote

from flask import Response, request

from app.edge import LONG_ANSWER_BYTES, current_edge
from app.errors import core_error_response
from eventvault.errors import TooBusy

NDJSON = "application/x-ndjson"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9._-]+")


def ndjson_response(lines: Iterator[bytes], release: Callable[[], None], name: str) -> Response:
    """Return an NDJSON answer for a file of that name. release: called when the answer ends or breaks off."""
    response = Response(lines, content_type=NDJSON)
    response.call_on_close(release)
    response.headers["Content-Disposition"] = attachment(name)
    response.headers["X-Accel-Buffering"] = "no"
    return response


def attachment(name: str) -> str:
    """Return the `Content-Disposition` of a download with this file name: RFC 6266, with RFC 8187 beyond plain names.

    A header is ASCII. A client that does not know `filename*` gets a name without what ASCII lacks.
    """
    if _PLAIN_NAME.fullmatch(name):
        return f"attachment; filename={name}"
    plain = re.sub(r"[^A-Za-z0-9._ -]", "", unicodedata.normalize("NFKD", name))
    stem, dot, suffix = plain.partition(".")
    return (
        f"attachment; filename=\"{stem.strip() or 'download'}{dot}{suffix}\"; filename*=UTF-8''{quote(name, safe='')}"
    )


def take_slot_for_long_answer(response: Response) -> Response:
    """Return the answer, or TooBusy if it is long and no slot is free. A stream took its slot when it began.

    The end of the request frees it. Only for GET: after a request that changed something, TooBusy would be wrong.
    """
    if request.method != "GET" or not response.is_sequence or sum(map(len, response.response)) <= LONG_ANSWER_BYTES:
        return response
    try:
        current_edge().long_answers.acquire()
    except TooBusy as error:
        return core_error_response(error)
    return response
