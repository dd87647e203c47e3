"""The pages by the keyboard alone, and for who hears them: order, sight and place of the focus, what is said."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests.browser import wcag
from tests.browser.following import go, rows
from tests.browser.paneling import GROUP, write_letter
from tests.browser.sizes import BOTH
from tests.storing import numbered, store
from tkcons.errors import SearchTookTooLong
from tkcons.models import Group, Member
from tkcons.viewer import search

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SIZES = pytest.mark.parametrize("page", **BOTH, indirect=True)
MOST = 60  # stops of the focus on one of these pages
PATHS = (
    "/tkcons/read",
    "/tkcons/read?partition=x",
    "/tkcons/read/orders/0/1",
    "/tkcons/status",
    f"/tkcons/group?name={GROUP}",
    f"/tkcons/group/move?name={GROUP}&to=earliest",
    "/tkcons/new-topic",
    "/tkcons/produce",
    "/tkcons/deadletters",
    "/tkcons/deadletters/00000000000000000000000000000001",
)


@SIZES
def test_the_focus_goes_down_every_page_is_seen_and_leaves_it(page: Page, sink_without_broker):
    store("one", '{"a": {"b": {"c": 1}}}', "three")
    write_letter()
    for path in PATHS:
        page.goto(path)
        page.locator("main").wait_for()
        assert page.evaluate("innerWidth") == (page.viewport_size or {})["width"], (
            path
        )  # a phone shows it in its own size
        page.keyboard.press("Tab")
        assert page.evaluate(wcag.FOCUS)["text"] == "Skip to the content", path
        page.keyboard.press("Tab")
        before = page.evaluate(wcag.FOCUS)
        for _ in range(MOST):
            page.keyboard.press("Tab")
            at = page.evaluate(wcag.FOCUS)
            if at is None or at["text"] == "Skip to the content":
                break  # out of the page, and around
            assert at["seen"], (path, at)
            assert at["width"] > 1, (path, at)
            # Below what had it, or in the same line farther on; a region has it before what is in it.
            assert at["bottom"] > before["top"], (path, before, at)
            assert at["top"] >= before["bottom"] - 1 or at["left"] >= before["left"], (path, before, at)
            before = at
        else:
            pytest.fail(f"no end of {path}")


@SIZES
def test_the_first_stop_skips_to_the_content(page: Page):
    store("one")
    page.goto("/tkcons/read")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('main').contains(document.activeElement)")


@SIZES
def test_who_pages_or_searches_by_keyboard_stays_where_the_news_are_and_hears_them(page: Page):
    store(*numbered(130))
    go(page)
    page.get_by_role("link", name="Older messages").focus()
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(30)
    expect(page.locator("#results")).to_be_focused()
    expect(page.locator("#news")).to_have_text("30 messages")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Newest messages")).to_be_focused()
    page.get_by_label("Text in the value").focus()
    page.keyboard.type("message 129")
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(1)
    expect(page.get_by_label("Text in the value")).to_be_focused()
    expect(page.locator("#news")).to_have_text("1 message")
    page.get_by_label("Text in the value").fill("nowhere")
    page.keyboard.press("Enter")
    expect(page.locator("#news")).to_have_text("Nothing matches")


@SIZES
def test_new_messages_are_said_and_not_more_often_than_can_be_listened_to(page: Page):
    store("first")
    page.clock.install()
    go(page)
    store("second", "third")
    expect(page.locator("#news")).to_have_text("2 new")
    for text in ("fourth", "fifth", "sixth"):
        store(text)
        expect(rows(page).first).to_contain_text(text)
        expect(page.locator("#news")).to_have_text("2 new")
    page.clock.run_for(10_000)
    expect(page.locator("#news")).to_have_text("3 new")


@SIZES
def test_a_refresh_leaves_the_focus_and_what_is_marked_and_says_what_changed(page: Page, sink_without_broker):
    group, later = Group.objects.create(name=GROUP), timezone.now() + timedelta(minutes=5)  # alive throughout
    told = [
        {"topic": "orders", "partition": 0, "position": 0, "end": 0, "lag": 0}
    ]  # so Kafka, which is away, is not asked
    Member.objects.create(
        group=group, name="m", host="h", pid=1, state="running", partitions=told, started_at=later, seen_at=later
    )
    page.clock.install()
    page.goto(f"/tkcons/group?name={GROUP}")
    refreshed = lambda: page.expect_response("**/tkcons/group?name=*")  # noqa: E731
    link = page.locator("#partitions").get_by_role("link", name="orders")
    link.focus()
    link.evaluate("element => { element.dataset.old = 1; }")
    with refreshed():
        page.clock.run_for(2_100)
    expect(link).not_to_have_attribute("data-old", "1")
    expect(link).to_be_focused()
    expect(page.locator("#news")).to_be_empty()
    page.locator(".told").evaluate("element => { element.dataset.old = 1; getSelection().selectAllChildren(element); }")
    Member.objects.update(state="failed", error="the brokers are away")
    with refreshed():
        page.clock.run_for(2_100)
    assert page.locator(".told").get_attribute("data-old") == "1"
    assert page.evaluate("String(getSelection())").strip() != ""
    page.evaluate("getSelection().empty()")
    with refreshed():
        page.clock.run_for(2_100)
    expect(page.locator("#news")).to_have_text(f"{GROUP}: failed. {GROUP}: the brokers are away")
    assert page.locator("#live [role=alert]").count() == 0  # it would be told again every two seconds


@SIZES
def test_what_is_shown_of_a_server_that_is_away_is_said_to_be_old(page: Page, sink_without_broker):
    page.clock.install()
    page.goto("/tkcons/status")
    stale = page.get_by_text("The server does not answer")
    expect(stale).to_be_hidden()
    page.route("**/tkcons/status", lambda route: route.abort())
    page.clock.run_for(2_100)
    expect(stale).to_be_visible()
    page.unroute("**/tkcons/status")
    page.clock.run_for(2_100)
    expect(stale).to_be_hidden()


@SIZES
def test_escape_closes_the_menu_and_goes_back(page: Page):
    store("one")
    go(page)
    page.locator(".menu summary").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="CSV")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="CSV")).to_be_hidden()
    expect(page.locator(".menu summary")).to_be_focused()


@SIZES
def test_all_letters_of_a_page_are_chosen_at_once(page: Page):
    for number in range(3):
        write_letter(number)
    page.goto("/tkcons/deadletters")
    page.get_by_label("Select all on this page").press("Space")
    page.get_by_role("button", name="Discard the selected…").press("Enter")
    expect(page.locator("h1")).to_have_text("Discard 3 dead letters?")


@SIZES
def test_a_search_that_the_server_refuses_says_why(page: Page, monkeypatch):
    def refuse(*_arguments: object) -> None:
        raise SearchTookTooLong

    store("one")
    go(page)
    monkeypatch.setattr(search, "find", refuse)
    page.get_by_label("Text in the value").fill("x")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text(str(SearchTookTooLong()))
