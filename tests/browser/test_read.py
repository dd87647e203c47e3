"""The page of messages as people use it: found and shown, on a desk and on a phone."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.following import go, rows
from tests.browser.hostile import HOSTILE, PARSED
from tests.browser.paneling import write_letter
from tests.browser.sizes import BOTH
from tests.storing import numbered, store
from tkcons.models import Message

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SIZES = pytest.mark.parametrize("size", **BOTH)


@SIZES
def test_it_is_found_by_links_and_forms_without_javascript(browser: Browser, live_server, size):
    store(*numbered(130))
    context = browser.new_context(base_url=live_server.url, java_script_enabled=False, locale="en", **size)
    page = context.new_page()
    page.goto("/tkcons/read")
    expect(page.locator("#live")).to_be_hidden()
    page.get_by_role("link", name="Older messages").click()
    expect(rows(page)).to_have_count(30)
    expect(rows(page).last).to_contain_text("message 0")
    page.get_by_label("Text in the value").fill("message 12")
    page.get_by_role("button", name="Find").click()
    expect(rows(page)).to_have_count(11)
    page.get_by_text("More to search by").click()
    page.get_by_label("Topic").fill("orders")
    page.get_by_label("Offset").fill("7")
    page.get_by_label("Text in the value").fill("")
    page.get_by_role("button", name="Find").click()
    expect(rows(page)).to_have_count(1)
    rows(page).get_by_role("link").click()
    expect(page.locator("pre")).to_have_text("message 7")
    context.close()


@SIZES
def test_each_field_finds_and_its_address_can_be_passed_on(opened: Page):
    store("an apple", key="k1", headers=(("kind", b"fruit"),))
    store("a carrot", topic="payments", partition=2, skip=5)
    wanted = {
        "Topic": "payments",
        "Partition": "2",
        "Key": "k1",
        "Header": "kind: fruit",
        "Text in the value": "carrot",
    }
    opened.goto("/tkcons/read")
    opened.get_by_text("More to search by").click()
    for label, text in wanted.items():
        opened.get_by_label(label, exact=True).fill(text)
        opened.get_by_role("button", name="Find").click()
        expect(rows(opened)).to_have_count(1)
        opened.get_by_label(label, exact=True).fill("")
        opened.get_by_role("button", name="Find").click()
        expect(rows(opened)).to_have_count(2)
    opened.get_by_label("Topic", exact=True).fill("payments")
    opened.get_by_label("Offset").fill("5")
    opened.get_by_role("button", name="Find").click()
    expect(rows(opened)).to_have_count(1)
    expect(rows(opened)).to_contain_text("a carrot")
    opened.goto(opened.url)
    expect(rows(opened)).to_have_count(1)
    expect(opened.get_by_label("Offset")).to_have_value("5")


@SIZES
def test_in_german(browser: Browser, live_server, size):
    context = browser.new_context(base_url=live_server.url, locale="de-DE", **size)
    page = context.new_page()
    store(*numbered(101))
    go(page)
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.locator("h1")).to_have_text("Nachrichten")
    expect(page.get_by_role("link", name="Ältere Nachrichten")).to_be_visible()
    page.get_by_role("button", name="Pausieren").click()
    store("eine mehr")
    expect(page.locator("#live-state")).to_have_text("Angehalten · 1 neu")
    page.get_by_role("button", name="Weiter").click()
    expect(rows(page).first).to_contain_text("eine mehr")
    context.close()


@SIZES
def test_older_messages_and_back(opened: Page):
    store(*numbered(150))
    go(opened)
    expect(rows(opened).first).to_contain_text("message 149")
    opened.get_by_role("link", name="Older messages").click()
    expect(rows(opened)).to_have_count(50)
    expect(opened.locator("#live")).to_be_hidden()
    expect(opened).to_have_url(re.compile("before="))
    opened.reload()
    expect(rows(opened)).to_have_count(50)
    opened.get_by_role("link", name="Newest messages").click()
    expect(rows(opened)).to_have_count(100)
    expect(opened.locator("#live")).to_have_attribute("data-state", "live")


ACTIVE = ":is(script, img, svg, iframe, style, math, a[hx-get])"


@SIZES
def test_a_strangers_text_stays_text(opened: Page):
    def place(text: str) -> None:
        store(text, topic=text[:40], key=text, headers=((text, text.encode()),))

    for text in HOSTILE:
        place(text)
    go(opened)
    for text in HOSTILE:
        place(text)
    expect(rows(opened)).to_have_count(2 * len(HOSTILE))
    assert opened.locator(f"main {ACTIVE}").count() == 0
    shown = [row.text_content() or "" for row in rows(opened).all()]
    addresses = [link.get_attribute("href") or "" for link in rows(opened).get_by_role("link").all()]
    for text, live, loaded in zip(reversed(HOSTILE), shown[: len(HOSTILE)], shown[len(HOSTILE) :], strict=True):
        assert min(live.count(text[:40]), loaded.count(text[:40])) >= 3
    assert opened.evaluate(PARSED, [addresses[: len(HOSTILE)], f"main {ACTIVE}"]) == []
    opened.goto(addresses[0])
    assert opened.locator("#message").count() == 1
    assert opened.locator(f"main {ACTIVE}").count() == 0
    text = HOSTILE[2]
    go(opened)
    opened.get_by_label("Topic").fill(text[:40])
    opened.get_by_label("Text in the value").fill(text)
    opened.get_by_role("button", name="Find").click()
    expect(rows(opened)).to_have_count(2)


@pytest.mark.parametrize("address", ["/tkcons/read", "/tkcons/read/orders/0/0", "/tkcons/deadletters", "/admin/login/"])
def test_what_slips_in_does_not_run(browser: Browser, live_server, address):
    store("first")
    context = browser.new_context(base_url=live_server.url)
    page = context.new_page()
    page.goto(address)
    slipped_in = """() => new Promise(done => {
        addEventListener('securitypolicyviolation', event => done(event.effectiveDirective));
        document.body.insertAdjacentHTML('beforeend', '<button onclick="this.dataset.ran = 1">x</button>');
        const button = document.body.lastElementChild;
        button.click();
        if (button.dataset.ran) done('it ran');
    })"""
    assert page.evaluate(slipped_in) == "script-src-attr"
    context.close()


@SIZES
def test_a_message_is_shown_whole(opened: Page):
    store("x" * 100_000, '{"customer": {"name": "Ada", "tags": [1.10]}}', bytes(range(256)), None)
    opened.goto("/tkcons/read/orders/0/1")
    expect(opened.locator(".json")).to_contain_text("Ada")
    opened.locator(".json summary", has_text="1 item").click()
    expect(opened.locator(".json")).to_contain_text("1.10")
    opened.get_by_role("link", name="Newer").click()
    expect(opened.locator("pre")).to_contain_text("ABCDEFGHIJKLMNO")
    opened.get_by_role("link", name="Newer").click()
    expect(opened.get_by_text("No value: the key is deleted.")).to_be_visible()
    opened.goto("/tkcons/read/orders/0/0")
    opened.get_by_role("link", name="Show all").click()
    expect(opened.locator("pre")).to_have_text("x" * 100_000)
    with opened.expect_download() as download:
        opened.get_by_role("link", name="Download").click()
    assert download.value.path().read_bytes() == b"x" * 100_000


@SIZES
def test_its_way_is_told_and_what_is_to_be_hidden_is(opened: Page, settings):
    settings.TKCONS = {"MASK": {"fields": ["card"]}}
    store('{"card": "4111", "total": -3}')
    write_letter(group="billing", topic_id="orders", offset=0, state="resent", changed_by="olga")
    opened.goto("/tkcons/read/orders/0/0")
    way = opened.locator(".steps li")
    expect(way).to_contain_text(
        ["Accepted", "Acknowledged", "Stored by g", "Dead letter of billing", "Handled after all"]
    )
    expect(way.first).to_contain_text("not recorded")
    expect(way.nth(3)).to_contain_text("after 5 tries: ValueError: negative total 1")
    expect(way.last).to_contain_text("olga")
    expect(opened.locator(".json")).to_contain_text("total: -3")
    assert "4111" not in opened.content()


@SIZES
def test_a_message_that_is_not_stored_yet_appears_when_it_is(opened: Page):
    store("first")
    opened.goto("/tkcons/read/orders/0/1")
    expect(opened.get_by_text("Not stored yet")).to_be_visible()
    store("the second")
    expect(opened.locator("pre")).to_have_text("the second")


@SIZES
def test_times_are_the_viewers(browser: Browser, live_server, size):
    store("first")
    Message.objects.update(stored_at="2026-01-02T03:04:05Z")
    context = browser.new_context(base_url=live_server.url, locale="en", timezone_id="Asia/Tokyo", **size)
    page = context.new_page()
    page.goto("/tkcons/read")
    expect(rows(page).locator("time")).to_have_text("2026-01-02 12:04:05")
    page.get_by_text("More to search by").click()
    expect(page.get_by_text("Times are in Asia/Tokyo")).to_be_visible()
    page.get_by_label("Stored from").fill("2026-01-02T12:05:00")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.get_by_label("Stored from").fill("2026-01-02T12:04:00")
    page.get_by_role("button", name="Find").click()
    expect(rows(page)).to_have_count(1)
    context.close()


@SIZES
def test_an_export_is_what_was_looked_for(opened: Page):
    store("one", "two")
    go(opened, "/tkcons/read?text=two")
    opened.get_by_text("Export").click()
    with opened.expect_download() as download:
        opened.get_by_role("link", name="CSV").click()
    assert download.value.suggested_filename == "messages.csv"
    text = download.value.path().read_text()
    assert "two" in text
    assert "one" not in text


@SIZES
def test_the_arrow_keys_go_from_message_to_message(opened: Page):
    store("one", "two", "three")
    go(opened)
    rows(opened).first.get_by_role("link").focus()
    opened.keyboard.press("ArrowDown")
    expect(rows(opened).nth(1).get_by_role("link")).to_be_focused()
    opened.keyboard.press("ArrowUp")
    opened.keyboard.press("Enter")
    expect(opened.locator("pre")).to_have_text("three")


@SIZES
def test_who_is_logged_out_gets_the_login_and_nothing_live(browser: Browser, live_server, settings, admin_user, size):
    settings.DEBUG = False
    context = browser.new_context(base_url=live_server.url, locale="en", **size)
    page = context.new_page()
    page.goto("/tkcons/read?text=a")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("password")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile(r"/tkcons/read\?text=a$"))
    expect(page.get_by_text("admin")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    assert context.request.get("/tkcons/events").status == 401
    assert context.request.get("/tkcons/export").status == 401
    context.close()
