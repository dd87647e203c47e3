"""The page of messages as people use it: followed live, on a desk and on a phone."""

import re
import time

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.following import go, rows
from tests.browser.sizes import BOTH
from tests.storing import numbered, store
from tests.waiting import eventually
from tkcons.viewer import events, hub

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SIZES = pytest.mark.parametrize("size", **BOTH)


@SIZES
def test_what_is_stored_appears_by_itself(opened: Page):
    store("first")
    go(opened)
    expect(rows(opened)).to_have_count(1)
    store("grüße 🎉", None, b"\x00\xff", key="k", headers=(("a", b"b"),))
    expect(rows(opened)).to_have_count(4)
    for row, text in enumerate(["00 ff", "tombstone", "grüße 🎉", "first"]):
        expect(rows(opened).nth(row)).to_contain_text(text)
    expect(rows(opened).nth(2)).to_contain_text("a: b")
    live = rows(opened).nth(2).inner_text()
    opened.reload()
    expect(rows(opened).nth(2)).to_contain_text("grüße 🎉")
    assert rows(opened).nth(2).inner_text().split() == live.split()  # as the server shows it


@SIZES
def test_within_a_moment(opened: Page):
    """The goal is 100 ms; a busy machine has more."""
    go(opened)
    opened.evaluate(
        "() => { window.seen = {}; new MutationObserver(() => document.querySelectorAll('#rows tr').forEach("
        "row => { seen[row.querySelector('code').textContent] ??= Date.now(); })).observe("
        "document.getElementById('rows'), {childList: true}); }"
    )
    delays = []
    for number in range(10):
        began = time.time()
        store("v", key=f"k{number}")
        expect(rows(opened).first).to_contain_text(f"k{number}")
        delays.append(opened.evaluate(f"seen['k{number}']") - began * 1000)
    assert sorted(delays)[2] < 1_000, delays


@SIZES
def test_it_begins_on_an_empty_page_and_keeps_two_hundred(opened: Page):
    go(opened)
    expect(opened.locator("#nothing")).to_be_visible()
    for start in range(0, 260, 65):
        store(*numbered(65, start))
        expect(rows(opened).first).to_contain_text(f"message {start + 64}")
    expect(rows(opened)).to_have_count(200)
    expect(rows(opened).last).to_contain_text("message 60")
    expect(opened.locator("#nothing")).to_have_count(0)


@SIZES
def test_paused_it_counts_and_resumed_it_shows(opened: Page):
    store("first")
    go(opened)
    pause = opened.get_by_role("button", name="Pause")
    pause.click()
    store("second", "third")
    expect(opened.locator("#live-state")).to_have_text("Paused · 2 new")
    expect(rows(opened)).to_have_count(1)
    opened.get_by_role("button", name="Resume").click()
    expect(rows(opened)).to_have_count(3)
    expect(opened.locator("#live-state")).to_have_text("Live")


@SIZES
def test_the_list_stays_where_it_is_when_the_state_gets_other_words(opened: Page):
    store("first")
    held: list[Route] = []
    opened.route("**/tkcons/events*", lambda route: held.append(route))  # noqa: PLW0108
    opened.goto("/tkcons/read")
    expect(opened.locator("#live-state")).to_have_text("Connecting …")
    before = rows(opened).first.bounding_box()
    held[0].continue_()
    expect(opened.locator("#live-state")).to_have_text("Live")
    assert rows(opened).first.bounding_box() == before


@SIZES
def test_who_has_scrolled_away_is_not_moved(opened: Page):
    store(*numbered(60))
    go(opened)
    opened.evaluate("window.scrollTo(0, 900)")
    eventually(lambda: opened.evaluate("scrollY") > 500)
    at = opened.evaluate("scrollY")
    store("later")
    fresh = opened.get_by_role("button", name="1 new")
    expect(fresh).to_be_visible()
    assert opened.evaluate("scrollY") >= at
    fresh.click()
    expect(rows(opened).first).to_contain_text("later")
    expect(fresh).to_be_hidden()


@SIZES
def test_what_is_followed_is_what_is_looked_for(opened: Page):
    store("a")
    go(opened)
    opened.get_by_label("Text in the value").fill("needle")
    opened.get_by_role("button", name="Find").click()
    expect(opened.get_by_role("heading", name="Nothing matches")).to_be_visible()
    expect(opened).to_have_url(re.compile("text=needle"))
    expect(opened.locator("#live")).to_have_attribute("data-state", "live")
    store("hay", "a needle", "hay")
    expect(rows(opened)).to_have_count(1)
    expect(rows(opened)).to_contain_text("a needle")
    opened.go_back()
    expect(rows(opened)).to_have_count(4)


@SIZES
def test_too_much_at_once_is_said_to_be_dropped(opened: Page):
    store("first")
    go(opened)
    store(*numbered(300))
    expect(opened.get_by_text("Dropped 100")).to_be_visible()
    expect(rows(opened)).to_have_count(200)
    expect(rows(opened).first).to_contain_text("message 299")


@SIZES
def test_a_stream_that_ends_is_taken_up_where_it_was(opened: Page, monkeypatch):
    """Here several times a second, as otherwise when a connection breaks or after five minutes."""
    monkeypatch.setattr(events, "FIRST", b"retry: 10\n\n")
    monkeypatch.setattr(events, "STREAM_SECONDS", 0.1)
    monkeypatch.setattr(events, "HEARTBEAT", 0.05)
    came, make = [], events.Viewer
    monkeypatch.setattr(events, "Viewer", lambda view, after: came.append(after) or make(view, after))
    opened.goto("/tkcons/read")
    for number in range(10):
        store(f"message {number}")
        opened.wait_for_timeout(50)
    expect(rows(opened)).to_have_count(10)
    for number in range(10):
        expect(rows(opened).nth(number)).to_contain_text(f"message {9 - number}")
    eventually(lambda: came[-1] != came[0])  # with the place of the last event that it had, not of its beginning


def hide(page: Page, *, hidden: bool) -> None:
    page.evaluate(
        "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


@SIZES
def test_a_hidden_tab_holds_no_connection_and_misses_nothing(opened: Page, monkeypatch):
    monkeypatch.setattr(events, "HEARTBEAT", 0.1)  # shows the server that nobody is there
    go(opened)
    eventually(lambda: len(hub.hub()._all()) == 1)
    hide(opened, hidden=True)
    store("while hidden")
    eventually(lambda: hub.hub()._all() == [], 40)
    store("while hidden too")
    assert rows(opened).count() == 0
    hide(opened, hidden=False)
    expect(rows(opened)).to_have_count(2)
    store("seen")
    expect(rows(opened)).to_have_count(3)


@SIZES
def test_many_tabs_leave_the_browser_connections_to_work_with(browser: Browser, live_server, size):
    store("first")
    context = browser.new_context(base_url=live_server.url, locale="en", **size)
    tabs = [context.new_page() for _ in range(8)]
    for tab in tabs:
        tab.goto("/tkcons/read")
    for tab in tabs:
        expect(tab.locator("#live-state")).to_have_text(re.compile("^Live"))
    store("second")
    for tab in tabs:
        expect(rows(tab)).to_have_count(2)
    assert len(hub.hub()._all()) == 3
    tabs[0].close()
    context.close()


@SIZES
def test_with_no_room_it_asks_now_and_then(browser: Browser, live_server, settings, size):
    settings.TKCONS = {"VIEWERS": 0}
    context = browser.new_context(base_url=live_server.url, locale="en", **size)
    page = context.new_page()
    page.goto("/tkcons/read")
    expect(page.locator("#live-state")).to_have_text("Live, every 2 seconds")
    store("first")
    expect(rows(page)).to_have_count(1)
    context.close()
