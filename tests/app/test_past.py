"""Past moments over HTTP, with a real store: some are built as temporary copies for their readers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import create_app
from eventvault import clock
from eventvault.events import cursor
from eventvault.restore.values import Moment
from eventvault.settings import Settings
from eventvault.store.service import StoreService
from tests.eventvault.past.past_moments import forget_kept, generation_of, post
from tests.restoring import drafts
from tests.stores import running_service

pytestmark = pytest.mark.slow


@pytest.fixture
def service(settings: Settings) -> Iterator[StoreService]:
    with running_service(settings) as service:
        yield service


@pytest.fixture
def web(settings: Settings, service: StoreService) -> FlaskClient:
    return create_app(settings, service).test_client()


class Left:
    """A superseded generation that shares two events and has four of its own, which only the journal has."""

    def __init__(self, service: StoreService) -> None:
        post(service, "shared", 2)
        name = service.create_backup().backup.name
        self.generation = generation_of(service)
        self.instants = [said(post(service, f"left-{number}")) for number in range(4)]
        service.restore(name)
        service.append(drafts(1, "since"))
        forget_kept(service)


def said(instant: int) -> str:
    return clock.format_microseconds(instant)


def get(web: FlaskClient, **query: Any) -> Any:
    return web.get("/api/events", query_string=query)


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.json
    return [each["id"] for each in answer.json["events"]]


LEFT = ["shared-0", "shared-1", "left-0-0", "left-1-0", "left-2-0", "left-3-0"]


def test_a_page_of_a_built_moment_names_the_generation_of_the_moment(web: FlaskClient, service: StoreService) -> None:
    left = Left(service)

    page = get(web, asOf=left.instants[1], generation=left.generation, limit=3)

    assert page.json["generation"] == left.generation
    assert cursor.decode(page.json["next"]) == cursor.Cursor(3, left.generation)


def test_a_cursor_of_one_moment_can_continue_in_another(web: FlaskClient, service: StoreService) -> None:
    left = Left(service)
    page = get(web, asOf=left.instants[1], generation=left.generation, limit=3).json

    assert ids(get(web, asOf=left.instants[1], after=page["next"])) == LEFT[3:4]
    assert ids(get(web, asOf=left.instants[3], after=page["next"])) == LEFT[3:]


def test_pages_of_a_moment_continue_after_a_restart(settings: Settings) -> None:
    with running_service(settings) as service:
        left = Left(service)
        web = create_app(settings, service).test_client()
        page = get(web, asOf=left.instants[3], generation=left.generation, limit=3).json
    with running_service(settings) as service:
        web = create_app(settings, service).test_client()
        assert ids(get(web, asOf=left.instants[3], after=page["next"])) == LEFT[3:]


def test_the_name_of_a_copy_is_not_accepted_as_a_generation(web: FlaskClient, service: StoreService) -> None:
    left = Left(service)
    view = service.resolve_moment(Moment(instant=clock.parse(left.instants[0]), generation=left.generation))
    key = view.generation
    assert (view.of, view.generation_id) == (left.generation,) * 2 != (key,) * 2

    for address, asked in (
        ("/api/events", {"asOf": left.instants[3], "generation": key}),
        ("/api/events/export", {"asOf": left.instants[3], "generation": key}),
        ("/api/events", {"asOf": left.instants[3], "after": cursor.encode(key, 0)}),
        ("/api/events/types", {"after": cursor.encode(key, 0), "upto": 1}),
        ("/api/backup/diff", {"from": f"{key}@", "to": "now"}),
    ):
        assert web.get(address, query_string=asked).status_code == 422, (address, asked)
    for into in ("present", "export"):
        for asked in ({"pointInTime": left.instants[3]}, {"sequence": 3}, {}):
            answer = web.post("/api/backup/restore", json={"into": into, "generation": key, **asked})
            assert (answer.status_code, answer.json["code"]) == (422, "invalid"), answer.json
            assert "generation" in answer.json["fields"]
