"""Stories in a real browser before a real service that go wrong, or go another way than by the mouse."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import processes
from tests.browser.conftest import Visit, until
from tests.service import Service, services
from tests.stores import folders_beneath

pytestmark = pytest.mark.browser

SETTINGS = {"JOURNAL_INTERVAL": "100", "AUTO_BACKUP_ENABLED": "false"}
NODE_ARCHIVE = Path("tests/fixtures/node/at_the_top.tar.gz")
LONG = "x" * 65_536
MOST = "x" * 2048
"""As long as a type may be."""
HIDE = "window.hides = true; document.dispatchEvent(new Event('visibilitychange'))"
CAN_HIDE = "Object.defineProperty(document, 'hidden', {get: () => window.hides === true})"


@pytest.fixture(scope="module")
def vault(module_service: Callable[..., Service]) -> Service:
    return module_service(environment=SETTINGS)


def last_sequence(vault: Service) -> int:
    found: int = vault.get("/api/health").json()["store"]["lastSequence"]
    return found


def fill(vault: Service, label: str = "middle") -> str:
    """Let there be a backup, and five events that it lacks. Returns its name."""
    vault.post("/api/events", [{"type": "order.created", "subject": f"orders/{n}"} for n in range(20)])
    name: str = vault.post("/api/backup/create", {"label": label}).json()["name"]
    assert vault.post("/api/events", [{"type": "order.cancelled", "data": {"n": n}} for n in range(5)]).status == 201
    return name


def delete_all(vault: Service) -> None:
    for each in vault.get("/api/backup/list").json()["backups"]:
        vault.request("DELETE", f"/api/backup/{each['name']}?force=true")


def focused(page: Any) -> str:
    text: str = page.evaluate("document.activeElement.innerText || document.activeElement.ariaLabel || ''")
    return text.strip()


def wait_with(page: Any, condition: Callable[[], object], what: str) -> None:
    """Wait for what a handler of the page notes: handlers run only while the page is asked something."""
    processes.wait_until(lambda: page.evaluate("true") and condition(), what)


IS_THERE = """
words => [...document.querySelectorAll("a, button")].some(
  each => !each.disabled && [each.innerText, each.ariaLabel].some(text => new RegExp(words).test((text || "").trim())))
"""


def tab_to(page: Any, words: str | re.Pattern[str]) -> None:
    """Press Tab until what has these words has the focus, once it is there."""
    until(page, IS_THERE, getattr(words, "pattern", words))
    for _ in range(60):
        if re.search(words, focused(page)):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {words}, but ends at {focused(page)!r}")


def test_back_undone_and_redone_by_the_keyboard_alone(vault: Service, visit: Callable[..., Visit]) -> None:
    delete_all(vault)
    fill(vault)
    whole = last_sequence(vault)
    page = visit().page
    page.goto(f"{vault.base}/")
    page.get_by_role("slider").wait_for()
    tab_to(page, "^Skip to the timeline$")
    page.keyboard.press("Enter")
    assert focused(page) == "Moment to go back to"
    page.keyboard.press("PageUp")
    page.get_by_role("button", name="Back to now").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Back to now").wait_for(state="detached")
    tab_to(page, "^Last backup$")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Go back…").wait_for()
    tab_to(page, "^Go back…$")
    page.keyboard.press("Enter")
    tab_to(page, "^Set 5 events aside and go back$")
    page.keyboard.press("Enter")
    page.get_by_text(re.compile("^Restored")).wait_for()
    assert last_sequence(vault) == whole - 5
    for press, question, there in (
        ("^Undo…$", f"^Bring back {whole} events$", whole),
        ("^Redo…$", "^Bring back", whole - 5),
    ):
        page.get_by_role("button", name=re.compile(press)).wait_for()
        tab_to(page, press)
        page.keyboard.press("Enter")
        page.get_by_role("dialog").wait_for()
        tab_to(page, question)
        page.keyboard.press("Enter")
        page.get_by_role("dialog").wait_for(state="detached")
        assert last_sequence(vault) == there


def test_back_by_dragging_with_a_finger_at_320_pixels(vault: Service, visit: Callable[..., Visit]) -> None:
    delete_all(vault)
    fill(vault)
    page = visit(320, 800, has_touch=True, is_mobile=True).page
    page.goto(f"{vault.base}/")
    page.get_by_text(re.compile("^up to")).wait_for()
    page.locator(".tl-handle").scroll_into_view_if_needed()
    handle, over = page.locator(".tl-handle").bounding_box(), page.locator(".tl-over").bounding_box()
    touch = page.context.new_cdp_session(page)
    y = handle["y"] + handle["height"] / 2

    def finger(kind: str, *points: float) -> None:
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x in points]})

    begin = handle["x"] + handle["width"] / 2
    finger("touchStart", begin)
    for step in range(1, 9):
        finger("touchMove", begin + (over["x"] + 3 - begin) * step / 8)
    for _ in range(5):
        finger("touchMove", over["x"] + 3)  # it rests: a tap that ends a fling would count for nothing else
    finger("touchEnd")
    tap_until_asked(page, "Go back…")
    page.get_by_role("dialog").get_by_role("button", name=re.compile("go back$")).tap()
    page.get_by_text(re.compile("^Restored")).wait_for()
    assert last_sequence(vault) == 0
    tap_until_asked(page, "Undo…")
    page.get_by_role("button", name=re.compile("^Bring back")).tap()
    page.get_by_text(re.compile("^Undone")).wait_for()
    assert last_sequence(vault) > 0


def tap_until_asked(page: Any, name: str) -> None:
    """Tap a button, again as a finger would if nothing comes of it: the browser takes a tap for the end of a fling."""
    dialog = page.get_by_role("dialog")
    for _ in range(10):
        page.get_by_role("button", name=name).tap()
        with suppress(TimeoutError):
            processes.wait_until(dialog.is_visible, f"{name} asks nothing", 3)
            return
    raise TimeoutError(f"{name} asks nothing")


def killed_once_it_is_done(first: Service) -> Callable[[Any], None]:
    """The request arrives, what it asks for is done, and then the service is killed: no answer comes."""

    def lose(route: Any) -> None:
        answer = route.fetch().json()
        if "operation" in answer:
            path = f"/api/operations/{answer['operation']['id']}"
            processes.wait_until(lambda: first.get(path).json()["operation"]["state"] == "succeeded", "it is not done")
        processes.kill(first.processes())
        route.abort()

    return lose


def killed_before_it_arrives(first: Service) -> Callable[[Any], None]:
    def lose(route: Any) -> None:
        processes.kill(first.processes())
        route.abort()

    return lose


def ask_restore(page: Any) -> None:
    page.get_by_role("button", name="Restore middle…").click()
    page.get_by_role("button", name="Set 5 events aside and go back").click()


def ask_undo(page: Any) -> None:
    page.get_by_role("link", name="Overview", exact=True).click()
    page.get_by_role("button", name="Undo…").click()
    page.get_by_role("button", name=re.compile("^Bring back")).click()


def ask_delete(page: Any) -> None:
    page.get_by_label(re.compile("^More for")).click()
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("textbox").fill(page.locator(".name .sub").first.inner_text())
    page.get_by_role("button", name=re.compile("^Delete .* for good")).click()


@pytest.mark.parametrize(
    ("ask", "address", "lose", "words"),
    [
        (ask_restore, "**/api/backup/restore?async=true", killed_once_it_is_done, re.compile("^Back at middle")),
        (ask_restore, "**/api/backup/restore?async=true", killed_before_it_arrives, "nothing was changed"),
        (ask_undo, "**/api/backup/undo?async=true", killed_once_it_is_done, re.compile("^As it was")),
        (ask_delete, "**/api/backup/*?force=true", killed_once_it_is_done, re.compile("is deleted.$")),
        pytest.param(
            ask_delete, "**/api/backup/*?force=true", killed_before_it_arrives, "nothing was changed",
            marks=pytest.mark.soak,
        ),
        pytest.param(
            ask_undo, "**/api/backup/undo?async=true", killed_before_it_arrives, "nothing was changed",
            marks=pytest.mark.soak,
        ),
    ],
)  # fmt: skip
def test_a_service_that_is_killed_under_a_dialog_comes_back_and_the_page_says_what_became_of_it(
    service: Callable[..., Service],
    visit: Callable[..., Visit],
    ask: Callable[[Any], None],
    address: str,
    lose: Callable[[Service], Callable[[Any], None]],
    words: Any,
) -> None:
    first = service(workers=1, environment=SETTINGS)
    name = fill(first)
    if ask is ask_undo:
        assert first.post("/api/backup/restore", {"backupName": name}).status == 200
    page = visit().page
    page.goto(f"{first.base}/#/backups")
    page.get_by_role("button", name="middle", exact=True).wait_for()
    page.route(address, lose(first))
    ask(page)
    page.get_by_role("dialog").get_by_text("Once it does, this says what became of it.").wait_for()
    first.stop()
    second = service(workers=1, environment=SETTINGS, port=first.port)
    page.get_by_text(words).first.wait_for()
    if lose is killed_once_it_is_done:
        assert page.get_by_role("dialog").count() == 0
    second.stop()


def test_the_way_back_is_that_of_the_newest_restore(vault: Service, visit: Callable[..., Visit]) -> None:
    name = fill(vault)
    whole = last_sequence(vault)
    assert vault.post("/api/backup/restore", {"backupName": name}).status == 200
    page = visit().page
    begins(page, vault)
    page.get_by_role("button", name="Undo…").wait_for()
    held: list[Any] = []
    let_go = False
    page.route("**/api/backup/undo", lambda route: route.continue_() if let_go else held.append(route))
    assert vault.post("/api/backup/undo").status == 200
    page.get_by_text(re.compile("^Undone")).wait_for()
    wait_with(page, lambda: held, "the list is not asked for")
    assert page.get_by_role("button", name="Redo…").count() == 0

    let_go = True
    for route in held:
        route.continue_()
    page.get_by_role("button", name="Redo…").click()
    page.get_by_role("button", name=f"Bring back {whole - 5} events").click()
    processes.wait_until(lambda: last_sequence(vault) == whole - 5, "the redo is not there")


def streams(asked: list[str]) -> int:
    return sum(url.endswith("/api/changes/stream") for url in asked)


def test_all_tabs_hear_through_one_stream_and_the_next_tab_leads_when_the_first_is_closed(
    vault: Service, visit: Callable[..., Visit]
) -> None:
    here = visit()
    asked: list[str] = []
    here.page.context.on("request", lambda request: asked.append(request.url))
    tabs = [here.page, here.page.context.new_page()]
    for tab in tabs:
        tab.goto(f"{vault.base}/#/events")
        tab.get_by_text("live", exact=True).wait_for()
    with here.page.expect_response(lambda answer: "/api/events?" in answer.url):
        vault.post("/api/events", {"type": "heard.by.both"})
    for tab in tabs:
        tab.get_by_role("button", name="heard.by.both").wait_for()
    assert streams(asked) == 1

    with tabs[1].expect_request("**/api/changes/stream"):
        tabs[0].close()
    vault.post("/api/events", {"type": "heard.by.the.other"})
    tabs[1].get_by_role("button", name="heard.by.the.other").wait_for()


def test_a_hidden_page_asks_nothing_and_a_visible_one_asks_again(vault: Service, visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.page
    page.add_init_script(CAN_HIDE)
    page.clock.install()
    with page.expect_request("**/api/changes/stream"):
        page.goto(f"{vault.base}/#/events")
    page.get_by_text("live", exact=True).wait_for()
    page.evaluate(HIDE)
    page.wait_for_load_state("networkidle")
    before = len(here.asked)
    page.clock.run_for(120_000)
    assert here.asked[before:] == []

    vault.post("/api/events", {"type": "posted.meanwhile"})
    page.evaluate(HIDE.replace("true", "false"))
    page.get_by_role("button", name="posted.meanwhile").wait_for()


SAY_ENDED = """new Promise((done) => {
  const [here, there] = [1, 2].map(() => new BroadcastChannel("eventvault-live"));
  there.onmessage = () => done();
  here.postMessage("ended");
})"""
"""Says that an operation has ended, as a page tells its other tabs what it has heard of. Done once it was heard."""


def asks_for_health(*, older: bool) -> Callable[[Any], bool]:
    """Return what finds a request for health that takes an older answer, or one that takes none."""
    taken = "max-age=1" if older else None
    return lambda asked: asked.url.endswith("/api/health") and asked.headers.get("cache-control") == taken


def test_a_page_takes_the_answer_of_other_pages_where_it_asks_again_by_itself(
    vault: Service, visit: Callable[..., Visit]
) -> None:
    page = visit().page
    with page.expect_request(asks_for_health(older=False)):
        page.goto(f"{vault.base}/")
    with page.expect_request(asks_for_health(older=True)):
        pass
    with page.expect_request(asks_for_health(older=False)):
        vault.post("/api/backup/create")


def test_a_change_that_is_heard_of_before_an_answer_is_asked_for_after_it(
    vault: Service, visit: Callable[..., Visit]
) -> None:
    page = visit().page
    is_scheduled, said = asks_for_health(older=True), []

    def say_first(route: Any) -> None:
        if is_scheduled(route.request) and not said:
            said.append(page.evaluate(SAY_ENDED))
        route.continue_()

    page.goto(f"{vault.base}/")
    with page.expect_request(lambda asked: said and asks_for_health(older=False)(asked)):
        page.route("**/api/health", say_first)


def test_a_hidden_page_asks_nothing_of_what_it_began_until_somebody_sees_it(
    vault: Service, visit: Callable[..., Visit]
) -> None:
    here = visit()
    page = here.page
    page.add_init_script(CAN_HIDE)
    page.clock.install()
    page.goto(f"{vault.base}/#/backups")
    running = {"id": "x", "kind": "create", "state": "running", "progress": 0.5, "bytesTotal": None,
               "bytesPerSecond": None, "remainingSeconds": None}  # fmt: skip
    page.route("**/api/backup/create?*", lambda route: route.fulfill(status=202, json={"operation": running}))
    page.route("**/api/operations/x", lambda route: route.fulfill(json={"operation": running}))
    page.get_by_role("button", name="Back up now").click()
    page.get_by_role("dialog").get_by_role("button", name="Back up", exact=True).click()
    page.get_by_text("50 %").wait_for()
    page.evaluate(HIDE)
    page.wait_for_load_state("networkidle")
    before = len(here.asked)
    page.clock.run_for(120_000)
    assert here.asked[before:] == []

    page.evaluate(HIDE.replace("true", "false"))
    with page.expect_request("**/api/operations/x"):
        page.clock.run_for(2000)


def test_a_list_that_does_not_come_any_more_says_how_old_it_is(vault: Service, visit: Callable[..., Visit]) -> None:
    fill(vault, "carried away")
    page = visit().page
    page.clock.install()
    page.goto(f"{vault.base}/#/backups")
    page.get_by_text("carried away").first.wait_for()
    refusal = {"success": False, "code": "too_busy", "error": "the list takes too long", "hint": "try again later"}
    page.route("**/api/backup/list?*", lambda route: route.fulfill(status=503, json=refusal))

    def is_said() -> bool:
        page.clock.run_for(2000)
        return bool(page.get_by_text("What is below is as it was").count())

    processes.wait_until(is_said, "nothing says that the list is old")
    page.get_by_text("The list takes too long.").wait_for()
    assert page.get_by_text("carried away").count() > 0
    page.unroute_all()
    processes.wait_until(lambda: not is_said(), "it is still said")


def test_what_a_shell_began_is_seen_without_polling(vault: Service, visit: Callable[..., Visit]) -> None:
    here = visit()
    page = here.page
    with page.expect_request("**/api/changes/stream"):
        page.goto(f"{vault.base}/#/operations")
    page.get_by_role("heading", name="What ran").wait_for()
    rows = page.get_by_role("row").filter(has_text="Backing up").filter(has_text="done in")
    before = rows.count()
    with page.expect_response(lambda answer: "/api/operations?" in answer.url):
        assert vault.post("/api/backup/create", {"label": "by a shell"}).status == 200
    processes.wait_until(lambda: rows.count() > before, "the backup is not listed")


@pytest.fixture(scope="module")
def hostile_vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose backup and events have names and data that somebody chose to do harm."""
    folder = tmp_path_factory.mktemp("hostile")
    with services(folders_beneath(folder), folder) as start:
        vault = start(workers=1, environment=SETTINGS)
        label = "\u202e<img src=x onerror=alert(1)>" + "L" * 900
        vault.post("/api/backup/create", {"label": label})
        hostile = [
            {"type": MOST, "subject": MOST, "source": MOST, "data": {"text": LONG}},
            {"type": "<script>alert(1)</script>", "subject": "\u202eevil\u2066", "data": "<b>bold</b>"},
        ]
        assert vault.post("/api/events", hostile).status == 201
        yield vault


@pytest.mark.parametrize("width", [1280, 320])
def test_hostile_text_is_shown_as_text_and_breaks_no_page(
    hostile_vault: Service, visit: Callable[..., Visit], width: int
) -> None:
    vault = hostile_vault
    here = visit(width, 800)
    page = here.page
    for address in ("#/overview", "#/overview?at=1", "#/backups", "#/events", "#/events?compare=1", "#/operations"):
        page.goto("about:blank")
        page.goto(f"{vault.base}/{address}")
        page.locator("main h1").wait_for()
        page.locator(".skeleton, main [aria-busy=true]").first.wait_for(state="detached")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
    page.goto(f"{vault.base}/#/events")
    page.get_by_role("button", name=re.compile("^x{100}")).click()
    page.get_by_role("dialog").wait_for()
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width
    page.keyboard.press("Escape")
    page.goto(f"{vault.base}/#/backups")
    page.get_by_role("button", name=re.compile("^Restore ")).click()
    page.get_by_role("dialog").get_by_role("button", name=re.compile("go back$", re.IGNORECASE)).wait_for()
    assert page.evaluate("document.querySelector('dialog').scrollWidth") <= width
    assert page.locator("img[src=x]").count() == 0
    assert [text for text in here.said if "422" not in text] == []


def upload(page: Any, path: Path) -> Any:
    page.locator("input[type=file]").set_input_files(path)
    return page.get_by_role("alert")


def test_a_file_that_cannot_be_taken_in_is_refused_with_its_name_and_the_reason(
    vault: Service, visit: Callable[..., Visit], tmp_path: Path
) -> None:
    delete_all(vault)
    name = fill(vault)
    page = visit().page
    page.goto(f"{vault.base}/#/backups")
    page.get_by_role("button", name="middle", exact=True).wait_for()

    (tmp_path / name).write_bytes(b"another one of this name")
    with page.expect_response(f"**/api/backup/{name}"):
        alert = upload(page, tmp_path / name)
    alert.get_by_text("is there already").wait_for()
    assert alert.get_by_text(name).count() > 0
    page.get_by_role("button", name="Dismiss").click()

    (tmp_path / "wrong name.zip").write_bytes(b"PK")
    alert = upload(page, tmp_path / "wrong name.zip")
    alert.get_by_text("wrong name.zip").first.wait_for()
    page.get_by_role("button", name="Dismiss").click()

    (tmp_path / "half.tar.gz").write_bytes(NODE_ARCHIVE.read_bytes()[:1000])
    alert = upload(page, tmp_path / "half.tar.gz")
    alert.get_by_text("half.tar.gz").first.wait_for()
    assert ".upload" not in alert.inner_text()
    page.get_by_role("button", name="Dismiss").click()

    page.route("**/api/backup/upload?*", lambda route: route.abort())
    alert = upload(page, NODE_ARCHIVE)
    alert.get_by_text(f"the upload of {NODE_ARCHIVE.name} broke off", exact=False).wait_for()
    alert.get_by_text("Nothing of it was stored", exact=False).wait_for()
    page.get_by_role("button", name="Dismiss").click()

    full = {
        "success": False,
        "code": "no_space",
        "error": f"taking {NODE_ARCHIVE.name} in failed: no space left",
        "hint": "free some",
    }
    page.unroute_all()
    page.route("**/api/backup/upload?*", lambda route: route.fulfill(status=507, json=full))
    upload(page, NODE_ARCHIVE).get_by_text("no space left", exact=False).wait_for()


def test_files_that_are_dropped_on_any_page_are_taken_in(vault: Service, visit: Callable[..., Visit]) -> None:
    vault.request("DELETE", f"/api/backup/{NODE_ARCHIVE.name}?force=true")
    page = visit().page
    page.goto(f"{vault.base}/#/settings")
    page.get_by_text("JOURNAL_INTERVAL").wait_for()
    content = list(NODE_ARCHIVE.read_bytes())
    dropped = page.evaluate_handle(
        """([name, bytes]) => {
          const files = new DataTransfer();
          files.items.add(new File([new Uint8Array(bytes)], name));
          return files;
        }""",
        [NODE_ARCHIVE.name, content],
    )
    page.dispatch_event("body", "dragenter", {"dataTransfer": dropped})
    page.get_by_text("It is read to its last byte").wait_for()
    page.dispatch_event("body", "drop", {"dataTransfer": dropped})
    page.get_by_text("was read to its end and is good").wait_for()
    page.get_by_role("button", name="uploaded", exact=True).wait_for()


def test_a_moment_that_cannot_be_had_names_the_nearest_as_a_link(vault: Service, visit: Callable[..., Visit]) -> None:
    fill(vault)
    page = visit().page
    for moment in ("at=1000000000", "at=4102444800", "generation=0123456789abcdef&sequence=3", "at=-1"):
        page.goto("about:blank")
        page.goto(f"{vault.base}/#/overview?{moment}")
        page.get_by_role("alert").wait_for()
        page.get_by_role("link", name=re.compile("Go to the nearest moment")).click()
        page.get_by_role("heading", name=re.compile("If you (go|bring) back")).wait_for()


ADDRESSES = [
    ("#/nowhere?x=1", "#/overview"),
    ("#//", "#/overview"),
    ("#/%E0%A4%A", "#/overview"),
    ("#/overview?at=x&range=y&from=2&to=1", "#/overview"),
    ("#/overview?from=-1e99&to=1e99&at=1e300", "#/overview"),
    ("#/overview?at=NaN&generation=<b>&sequence=1.5", "#/overview"),
    ("#/backups?show=constructor&x=2", "#/backups"),
    ("#/events?type=a&nonsense=1", "#/events?type=a"),
    ("#/settings?token=ev_secret", "#/settings"),
]
"""What is asked for, and what it becomes."""


def test_nonsense_in_the_address_is_corrected(vault: Service, visit: Callable[..., Visit]) -> None:
    here = visit()
    for address, right in ADDRESSES:
        here.page.goto("about:blank")
        here.page.goto(f"{vault.base}/{address}")
        here.page.locator("main h1").wait_for()
        until(here.page, "right => location.hash === right", right)
        assert here.page.locator("main").inner_text().strip() != "", address
        assert here.said == [], address


SEQUENCES = "[...document.querySelectorAll('.events td.num')].map(cell => Number(cell.innerText.replaceAll(',', '')))"


COVERED = """
() => {
  const element = document.activeElement;
  const box = element.getBoundingClientRect();
  const middle = Math.min(box.left + box.width / 2, innerWidth - 1);
  if (element === document.body || box.height > innerHeight / 2) return null;
  const isOver = y => document.elementFromPoint(middle, y)?.closest(".top, nav") && !element.closest(".top, nav");
  return [box.top + 1, box.bottom - 1].some(y => y > 0 && y < innerHeight && isOver(y))
    && `${element.innerText || element.ariaLabel || element.tagName} at ${box.top}`;
}
"""


@pytest.mark.parametrize("width", [1280, 320])
@pytest.mark.parametrize("key", ["Tab", "Shift+Tab"])
def test_what_has_the_focus_is_not_beneath_a_bar_of_the_page(
    vault: Service, visit: Callable[..., Visit], width: int, key: str
) -> None:
    page = visit(width, 420).page
    page.goto(f"{vault.base}/#/settings")
    page.get_by_role("heading", name="Settings", exact=True).wait_for()
    page.wait_for_load_state("networkidle")
    covered = set()
    for _ in range(40):
        page.keyboard.press(key)
        covered.add(page.evaluate(COVERED))
    assert covered - {False, None} == set()


@pytest.mark.parametrize("more", [30, 130])
def test_earlier_events_stay_without_a_hole_while_new_ones_come_in(
    vault: Service, visit: Callable[..., Visit], more: int
) -> None:
    vault.post("/api/events", [{"type": "many", "data": n} for n in range(250)])
    page = visit().page
    page.goto(f"{vault.base}/#/events")
    page.get_by_role("button", name="Show earlier ones").click()
    until(page, f"{SEQUENCES}.length === 200")
    newest = vault.post("/api/events", [{"type": "new", "data": n} for n in range(more)]).json()["lastSequence"]
    until(page, f"{SEQUENCES}[0] === {newest}")
    shown = page.evaluate(SEQUENCES)
    assert shown == list(range(newest, newest - len(shown), -1))
    assert len(shown) == (200 + more if more < 100 else 100)


HAS_FOCUS = "title => document.activeElement.matches('h1') && document.activeElement.innerText === title"


def begins(page: Any, vault: Service) -> None:
    page.goto(f"{vault.base}/")
    page.get_by_role("heading", name="Your data is safe.").wait_for()


def test_a_page_that_is_opened_later_has_the_focus_on_its_title_at_each_visit(
    vault: Service, visit: Callable[..., Visit]
) -> None:
    fill(vault)
    page = visit().page
    begins(page, vault)
    for title in ("Events", "Operations", "Kafka", "Backups", "Events"):
        page.get_by_role("link", name=title, exact=True).press("Enter")
        until(page, HAS_FOCUS, title)


def test_a_page_whose_files_did_not_come_asks_for_them_again_by_itself(
    vault: Service, visit: Callable[..., Visit]
) -> None:
    fill(vault)
    page = visit().page
    begins(page, vault)
    asked: list[Any] = []

    def refuse_the_first(route: Any) -> None:
        asked.append(route)
        if len(asked) == 1:
            route.abort()

    page.route("**/events/page.js*", refuse_the_first)
    page.get_by_role("link", name="Events", exact=True).press("Enter")
    page.get_by_role("heading", name="Waiting for the service").wait_for()
    wait_with(page, lambda: len(asked) > 1, "the file is not asked for again")
    asked[1].continue_()
    until(page, HAS_FOCUS, "Events")


TRIED = """
async () => {
  const load = name => import(new URL(name, document.querySelector("script[type=module][src$='/app.js']").src).href);
  const { h, render } = await load("vendor/preact.mjs");
  const place = document.body.appendChild(document.createElement("div"));
  place.id = "tried";
  let come, asked;
  const answer = new Promise(resolve => come = resolve);
  const isAsked = new Promise(resolve => asked = resolve);
  const visitTwice = async (Page, found) => {
    render(h(Page), place);
    await isAsked;
    render(null, place);
    render(h(Page), place);
    come(found);
  };
  %s
}
"""
"""Runs a script with the page's own modules. It paints in `place`; `answer` comes for the first of two visits."""


def tried(vault: Service, visit: Callable[..., Visit], script: str) -> Any:
    """Run a script in an open page, and return the element in which it paints."""
    fill(vault)
    page = visit().page
    begins(page, vault)
    page.evaluate(TRIED % script)
    return page.locator("#tried")


def test_a_page_is_shown_whose_files_come_for_an_earlier_visit(vault: Service, visit: Callable[..., Visit]) -> None:
    place = tried(vault, visit, """
      const { later } = await load("later.js");
      await visitTwice(later(() => (asked(), answer)), () => h("p", null, "It is here."));
    """)  # fmt: skip
    place.get_by_text("It is here.").wait_for()


def test_an_answer_shows_that_comes_for_an_earlier_visit(vault: Service, visit: Callable[..., Visit]) -> None:
    place = tried(vault, visit, """
      const { useLook } = await load("service.js");
      const realFetch = window.fetch;
      window.fetch = (path, options) => path === "/made-up" ? (asked(), answer) : realFetch(path, options);
      const headers = { "Content-Type": "application/json" };
      const Count = () => h("p", null, `count ${useLook("/made-up").data?.count}`);
      await visitTwice(Count, new Response('{"count": 3}', { headers }));
    """)  # fmt: skip
    place.get_by_text("count 3").wait_for()


def test_a_page_that_was_hidden_meanwhile_does_not_ask_again(vault: Service, visit: Callable[..., Visit]) -> None:
    place = tried(vault, visit, """
      const { useLook } = await load("service.js");
      Object.defineProperty(document, "hidden", { get: () => window.hides === true });
      const realFetch = window.fetch;
      let count = 0, look;
      window.fetch = (path, options) => {
        if (path !== "/made-up") return realFetch(path, options);
        count += 1;
        asked();
        return answer.then(found => found.clone());
      };
      render(h(() => {
        look = useLook("/made-up", 60000);
        return h("p", null, `asked ${count}, count ${look.data?.count}`);
      }), place);
      await isAsked;
      look.again();
      window.hides = true;
      come(new Response('{"count": 3}', { headers: { "Content-Type": "application/json" } }));
    """)  # fmt: skip
    place.get_by_text("count 3").wait_for()
    assert place.inner_text() == "asked 1, count 3"


def test_an_address_counts_that_changes_before_anything_listens(vault: Service, visit: Callable[..., Visit]) -> None:
    place = tried(vault, visit, """
      const { useRoute } = await load("route.js");
      render(h(() => h("p", null, `at ${useRoute().page}`)), place);
      history.replaceState(null, "", "#/settings");
    """)  # fmt: skip
    place.get_by_text("at settings").wait_for()


def test_a_page_of_a_version_that_is_served_no_more_says_so(vault: Service, visit: Callable[..., Visit]) -> None:
    fill(vault)
    page = visit().page
    begins(page, vault)
    page.route("**/ui/**", lambda route: route.fulfill(status=404))
    page.get_by_role("link", name="Events", exact=True).press("Enter")
    page.get_by_role("heading", name="This page has to be loaded again").wait_for()
    page.unroute_all()
    page.get_by_role("button", name="Load it again").click()
    page.get_by_role("heading", name="Events", exact=True).wait_for()
