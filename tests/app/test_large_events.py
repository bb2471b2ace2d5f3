"""Pages of large events: no answer takes more memory than a few of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

from app.events import reading
from app.factory import create_app
from eventvault.database import paging
from eventvault.settings import Settings
from tests.restoring import drafts
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def large(settings: Settings) -> Iterator[FlaskClient]:
    """A client of a registry with 20 events of 50 kB and an empty one."""
    with running_service(settings) as service:
        service.append([*drafts(20, data="x" * 50_000), *drafts(1, "small")])
        yield create_app(settings, service).test_client()


@pytest.mark.parametrize(("page", "answer", "most"), [(10_000, 300_000, 7), (100_000, 300_000, 9), (10_000, 1, 1)])
def test_a_page_of_large_events_ends_early_and_its_cursor_leads_on(
    page: int, answer: int, most: int, large: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "PAGE_BYTES", page)
    monkeypatch.setattr(reading, "_PAGE_BYTES", answer)
    seen, after = [], "0"
    while after is not None:
        got = large.get("/api/events", query_string={"limit": 1000, "after": after}).json
        assert 1 <= len(got["events"]) <= most + 1
        seen += [event["id"] for event in got["events"]]
        after = got["next"]
    assert seen == [*(f"live-{number}" for number in range(20)), "small-0"]
    assert len(large.get("/api/events/export").data.splitlines()) == 21
