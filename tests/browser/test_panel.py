"""The panel as a person uses it: groups steered and moved."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.paneling import GROUP, click
from tests.browser.sizes import BOTH
from tests.waiting import eventually
from tkcons.models import Group, Member, Message, Position

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SIZES = pytest.mark.parametrize("page", **BOTH, indirect=True)


def card(page: Page):
    return page.locator("section.group").filter(has_text=GROUP)


@SIZES
@pytest.mark.kafka
def test_a_group_is_started_paused_and_stopped_and_the_page_tells_by_itself(page: Page, sink, produce):
    page.goto("/tkcons/status")
    expect(card(page).locator(".badge")).to_have_text("stopped")
    click(page, f"Start {GROUP}")
    expect(card(page).locator(".badge")).to_have_text("running")
    assert (Group.objects.get().desired, Group.objects.get().changed_by) == ("running", "local")
    produce(sink, "a", "b")
    eventually(lambda: Message.objects.count() == 2)
    expect(card(page).locator("polyline").first).to_be_attached()
    click(page, f"Pause {GROUP}")
    expect(card(page).locator(".badge")).to_have_text("paused")
    click(page, f"Stop {GROUP}")
    expect(card(page).locator(".badge")).to_have_text("stopped")
    expect(card(page)).to_contain_text("0 processes")


@SIZES
@pytest.mark.kafka
def test_the_groups_page_shows_processes_partitions_and_lag(page: Page, sink, produce):
    produce(sink, *"abc")
    page.goto("/tkcons")
    eventually(lambda: Message.objects.count() == 3)
    page.get_by_role("link", name=GROUP).click()
    expect(page.locator("#processes tbody tr")).to_contain_text("in the web server")
    row = page.locator("#partitions tbody tr")
    expect(row).to_contain_text(sink)
    produce(sink, "d")
    expect(row.locator("[data-label=Position]")).to_have_text("4")  # refreshed without a click
    expect(row.locator("[data-label=Lag]")).to_have_text("0")
    click(page, f"Stop {GROUP}")
    expect(page.get_by_text("No process runs this group.")).to_be_visible()
    produce(sink, "e", "f")
    expect(page.locator("#partitions [data-label=Lag]")).to_have_text("2")  # as Kafka tells it


@SIZES
@pytest.mark.kafka
def test_moving_is_refused_while_the_group_runs_and_done_when_it_is_stopped(page: Page, sink, produce):
    produce(sink, *"abc")
    page.goto("/tkcons")
    eventually(lambda: Message.objects.count() == 3)
    page.goto(f"/tkcons/group?name={GROUP}")
    click(page, "Move…")
    expect(page.locator("h1")).to_have_text(f"Move {GROUP} to the beginning?")
    click(page, "Move")
    expect(page.get_by_role("alert")).to_contain_text(f"{GROUP} is running: stop it first")
    assert Message.objects.count() == 3
    page.get_by_role("link", name="Cancel").click()
    click(page, f"Stop {GROUP}")
    eventually(lambda: not Member.objects.exists())
    page.get_by_label("To", exact=True).select_option("offset")
    page.get_by_label("Offset").fill("1")
    click(page, "Move…")
    click(page, "Move")
    cells = page.locator("tbody td").all_inner_texts()
    assert cells == [sink, "0", "3", "1"]
    assert Message.objects.count() == 1
    assert Position.objects.get().next_offset == 1
    page.get_by_role("link", name="Back to the group").click()
    expect(page.locator("h1")).to_have_text(GROUP)


@SIZES
@pytest.mark.kafka
def test_where_to_move_must_be_said(page: Page, sink):
    page.goto(f"/tkcons/group?name={GROUP}")
    page.get_by_label("To", exact=True).select_option("time")
    click(page, "Move…")
    expect(page.get_by_role("alert")).to_have_text("Say which.")


@SIZES
@pytest.mark.kafka
def test_what_expired_is_skipped_after_a_question(page: Page, sink, produce, kafka_admin):
    produce(sink, "a")
    page.goto(f"/tkcons/group?name={GROUP}")
    page.get_by_role("link", name="Go on past what expired unread…").click()
    click(page, "Go on without them")
    expect(page.get_by_text("Nothing had expired unread.")).to_be_visible()


@SIZES
@pytest.mark.kafka
def test_a_group_is_started_with_the_keyboard_alone(page: Page, sink):
    page.goto("/tkcons/status")
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Start {GROUP}":
            break
    page.keyboard.press("Enter")
    expect(card(page).locator(".badge")).to_have_text("running")


@SIZES
def test_the_page_says_who_did_what(page: Page, settings, sink_without_broker, admin_client, live_server):
    settings.DEBUG = False
    cookie = admin_client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": live_server.url}])
    page.goto(f"/tkcons/group?name={GROUP}")
    click(page, f"Pause {GROUP}")
    expect(page.get_by_role("heading", name="Who did what")).to_be_visible()
    expect(page.locator(".entries li")).to_have_text(re.compile("admin: wanted paused"))


@SIZES
def test_a_tab_that_nobody_sees_asks_for_nothing(page: Page, sink_without_broker):
    page.clock.install()
    page.goto("/tkcons/status")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    with page.expect_response("**/tkcons/status"):
        page.clock.run_for(2_500)  # it refreshes itself
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    asked.clear()
    page.clock.run_for(10_000)
    assert asked == []
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false})")
    with page.expect_response("**/tkcons/status"):
        page.clock.run_for(2_500)
