"""Django's admin as a person uses it: each model listed, searched, filtered, opened; actions asked for and recorded."""

import pytest
from django.contrib.admin.models import LogEntry
from django.utils import timezone
from playwright.sync_api import Page, expect

from tests.browser import wcag
from tests.browser.hostile import HOSTILE
from tests.browser.paneling import GROUP, write_letter
from tests.browser.sizes import BOTH, DESK
from tests.storing import store
from tk.models import OutboxEvent, Token
from tk.outbox import publish_many
from tk.record import Record
from tkcons.models import Group, Member

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SIZES = pytest.mark.parametrize("page", **BOTH, indirect=True)
STATES = OutboxEvent.State
LONG = "x" * 300


@pytest.fixture
def filled(page: Page, live_server, admin_client, sink_without_broker) -> Page:
    """Logged in, with two rows of everything that have a stranger's text."""
    store("an order", HOSTILE[0], key=HOSTILE[1], headers=((HOSTILE[2], b"x"),), group=GROUP)
    now = timezone.now()
    for name in (GROUP, "another"):
        group = Group.objects.create(name=name, desired="running")
        Member.objects.create(group=group, name=name, host="h", pid=1, state="failed", started_at=now, seen_at=now,
                              error=HOSTILE[0] + LONG)  # fmt: skip
    store(LONG, topic="payments", group="another", key=LONG)
    write_letter(1, cause=HOSTILE[0] + LONG)
    write_letter(2, group="another", state="discarded")
    publish_many(Record(topic, HOSTILE[0].encode(), HOSTILE[1].encode()) for topic in ("orders", "payments"))
    OutboxEvent.objects.filter(topic="orders").update(state=STATES.FAILED, error=HOSTILE[0] + LONG)
    for name in ("ann", "bob"):
        Token.objects.create(name=name, digest=name, scopes=["tk.produce"])
    cookie = admin_client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": live_server.url}])
    return page


def rows(page: Page):
    return page.locator("#result_list tbody tr")


# Model, what is searched for, a filter, and how many rows each finds; a filter's address. Read-only but for tokens.
MODELS = [
    ("tkcons/message", 3, "orders[0]@1", 1, "since=hour", 3),
    ("tkcons/position", 2, "payments", 1, "group=another", 1),
    ("tkcons/group", 2, "another", 1, "desired__exact=stopped", 0),
    ("tkcons/member", 2, "another", 1, "state=failed", 2),
    ("tkcons/deadletter", 2, "negative", 1, "state=discarded", 1),
    ("tk/outboxevent", 2, "pay", 1, "state=2", 1),
    ("tk/token", 2, "bob", 1, "revoked_at__isnull=False", 0),
]


@SIZES
def test_every_model_is_listed_searched_filtered_and_opened(filled: Page, live_server):
    for model, all_of_it, text, found, chosen, filtered in MODELS:
        for language in ("de", "en"):
            filled.context.add_cookies([{"name": "django_language", "value": language, "url": live_server.url}])
            filled.goto(f"/admin/{model}/")
            if filled.viewport_size == DESK["viewport"]:  # on a phone a list may be scrolled sideways
                assert filled.evaluate(wcag.CUT_OFF) == [], (model, language)
        expect(rows(filled)).to_have_count(all_of_it)
        assert filled.get_by_text("Show counts").count() == (model not in BIG_TABLES) * 1, model
        filled.locator("#searchbar").fill(text)
        filled.locator("#searchbar").press("Enter")
        expect(rows(filled)).to_have_count(found)
        filled.goto(f"/admin/{model}/?{chosen}")
        expect(rows(filled)).to_have_count(filtered)
        assert filled.locator(f"#changelist-filter a[href*='{chosen.partition('=')[0]}']").count() > 0, model
        filled.goto(f"/admin/{model}/")
        rows(filled).first.locator("th a").click()
        expect(filled.locator("#content")).to_contain_text("History")
        assert filled.locator("input[name=_save]").count() == 0, model  # looked at, not changed
        for path in ("", "../history/"):
            filled.goto(filled.url + path)
            assert filled.locator("#content :is(script:not([src]), img[onerror], iframe, style, math)").count() == 0
        assert filled.evaluate(wcag.TOO_WIDE) == [], model


BIG_TABLES = {"tkcons/message", "tkcons/deadletter", "tk/outboxevent"}  # no counts by which to filter

# List, action, the question, what is then said, the change that is recorded.
ACTIONS = [
    (f"tkcons/group/?q={GROUP}", "stop", "These groups will be wanted: stopped", f"Stopped: {GROUP}", "wanted stopped"),
    ("tkcons/deadletter/?state=waiting", "resend", "Handle 1 dead letter again?", "1: will be", "requested"),
    ("tkcons/deadletter/?state=waiting", "discard", "Discard 1 dead letter?", "1: discarded", "discarded"),
    ("tk/outboxevent/", "resend", "Send these events again?", "1 event changed.", "resent"),
    ("tk/outboxevent/", "discard", "Discard these events?", "1 event changed.", "discarded"),
    ("tk/token/", "revoke", "Revoke these tokens?", "2 tokens revoked.", "revoked"),
]


@SIZES
@pytest.mark.parametrize(("address", "action", "question", "said", "change"), ACTIONS, ids=range(len(ACTIONS)))
def test_an_action_asks_first_says_what_it_did_and_is_recorded(filled: Page, address, action, question, said, change):
    def ask() -> None:
        filled.goto(f"/admin/{address}")
        filled.locator("#action-toggle").check()
        expect(filled.locator(".action-counter")).to_contain_text("selected")
        filled.locator("select[name=action]").select_option(action)
        filled.get_by_role("button", name="Go").click()
        expect(filled.locator("#content h1")).to_have_text(question)

    ask()
    filled.get_by_role("link", name="No, take me back").click()
    expect(rows(filled).first).to_be_visible()
    assert not LogEntry.objects.exists()
    ask()
    filled.get_by_role("button", name="Yes, I").click()
    expect(filled.locator(".messagelist")).to_contain_text(said)
    entries = LogEntry.objects.all()
    assert {entry.user.get_username() for entry in entries} == {"admin"}
    assert all(change in entry.get_change_message() for entry in entries)
    filled.goto(f"/admin/{address.partition('?')[0]}{entries[0].object_id}/history/")
    expect(filled.locator("#change-history")).to_contain_text(change)


@SIZES
def test_a_token_is_made_and_shown_once(filled: Page):
    filled.goto("/admin/tk/token/add/")
    filled.locator("#id_name").fill("carla")
    filled.locator("#id_scopes").fill('["tk.produce"]')
    filled.get_by_role("button", name="Save", exact=True).click()
    expect(filled.locator(".messagelist")).to_contain_text("The token, shown this once:")
    filled.reload()
    expect(filled.get_by_text("The token, shown this once:")).to_have_count(0)
    assert Token.objects.filter(name="carla").count() == 1


def tab_to(page: Page, selector: str, key: str = "Tab") -> None:
    for _ in range(100):
        page.keyboard.press(key)
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"{selector} cannot be reached")


@SIZES
def test_lists_questions_and_forms_are_used_with_the_keyboard_alone(filled: Page):
    filled.goto("/admin/tkcons/deadletter/")
    tab_to(filled, "#searchbar")
    filled.keyboard.type("alert")
    filled.keyboard.press("Enter")
    expect(rows(filled)).to_have_count(1)
    tab_to(filled, "#result_list tbody .action-select")
    filled.keyboard.press("Space")
    tab_to(filled, "select[name=action]", "Shift+Tab")
    filled.keyboard.type("Discard")
    tab_to(filled, "button[name=index]")
    filled.keyboard.press("Enter")
    expect(filled.locator("#content h1")).to_have_text("Discard 1 dead letter?")
    tab_to(filled, "#content input[type=submit]")
    filled.keyboard.press("Enter")
    expect(filled.locator(".messagelist")).to_contain_text("1: discarded")
    filled.goto("/admin/tk/token/add/")
    tab_to(filled, "#id_name")
    filled.keyboard.type("carla")
    tab_to(filled, "#id_scopes")
    filled.keyboard.press("Control+A")
    filled.keyboard.type('["tk.produce"]')
    tab_to(filled, "input[name=_save]")
    filled.keyboard.press("Enter")
    expect(filled.locator(".messagelist")).to_contain_text("The token, shown this once:")
