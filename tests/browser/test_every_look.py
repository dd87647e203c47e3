"""Every page, empty and filled, in each window, theme and language: what fits, can be read, has a name, is translated."""

import re
import time
import uuid
from collections.abc import Callable, Iterable
from datetime import timedelta

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page

from tests.browser import wcag
from tests.browser.paneling import GROUP, write_letter
from tests.browser.sizes import DESK, PHONE
from tests.storing import place, store
from tk import clusters, trail
from tk.access import Caller
from tkcons.models import Group, Member, Sample

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

LONG = "a-topic-with-a-rather-long-name"
LETTER = "00000000000000000000000000000001"

# A page's address, or with what is then done there.
Visit = str | tuple[str, Callable[[Page], None]]


def submit(**fields: str) -> Callable[[Page], None]:
    """Fill these fields of the page's own form, and send it."""

    def act(page: Page) -> None:
        for name, text in fields.items():
            page.locator(f"main form [name={name}]").fill(text)
        with page.expect_navigation():
            page.locator("main form:not(.buttons) button:not([name])").first.click()

    return act


def choose(page: Page) -> None:
    page.locator("#all").check()
    page.locator("button[value=discard]").click()
    page.locator(".ask").wait_for()


EMPTY: list[Visit] = [
    *("read", "status", f"group?name={GROUP}", "topics/{topic}/messages", "deadletters", f"deadletters/{LETTER}"),
    (f"group/move?name={GROUP}&to=earliest", submit()),
    (f"group/skip?name={GROUP}", submit()),
]
FILLED: list[Visit] = [
    *("read", "read?text=nothing", "read?partition=x", "read?key=k&since=2026-01-01T00:00&zone=UTC", "export?format=x"),
    *("read/json/0/0", "read/json/0/9", "read/none/0/9", f"read/{LONG}/0/0", f"read/{LONG}/0/2", f"read/{LONG}/0/3"),
    *("status", f"group?name={GROUP}", f"group/move?name={GROUP}&to=time", "group?name=nosuch"),
    *("topics?q={topic}", "topics?q=nosuch", "topics/{topic}", "topics/{topic}/messages", "topics/nosuch"),
    *("topics/{topic}/messages?partition=7", "topics/{topic}/messages?offset=x", "topics/{topic}/messages/0/9"),
    *(f"topics/{{topic}}/messages/0/{offset}" for offset in range(4)),
    *("deadletters", "deadletters?q=nosuch", "deadletters?since=x", f"deadletters/{LETTER}"),
]

ACTS: list[Visit] = [
    ("new-topic", submit(name="no spaces")),
    ("topics/{topic}/delete", submit(typed="another")),
    ("produce", submit(value="sent")),
    ("produce", submit(headers="tk-event-id: 1")),
    ("produce", submit(headers="no colon")),
    (f"group/move?name={GROUP}&to=earliest", submit()),
    (f"group/skip?name={GROUP}", submit()),
    ("deadletters", choose),
]

# Texts that people see or hear, but for data, which is in code and the like.
TEXTS = """() => {
  const data = 'code, pre, time, textarea, .json, script, template, .topic, .zone, [lang]:not(html)', found = new Set();
  found.add(document.title.replace(/ · tutorialkafka$/, ''));
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) if (!walk.currentNode.parentElement.closest(data)) found.add(walk.currentNode.textContent);
  const told = '[aria-label], [placeholder], [title]:not(time), [data-label], #live';
  for (const element of document.body.querySelectorAll(told)) {
    const {state, ...words} = element.dataset;
    for (const text of [element.ariaLabel, element.placeholder, element.title, ...Object.values(words)])
      if (text && !element.closest('[lang]:not(html)')) found.add(text);
  }
  return [...found].map(text => text.trim());
}"""

# What may be the same in both languages: words that are, and names.
SAME = re.compile(
    r"Consumer|Topics?|Partition|Offsets?|Position|Header|Name|Leader|Traceback|Live|JSON|CSV|JSONL|TXT|"
    r"compact|delete|compact,delete|[a-z]+(\.[a-z]+)+|admin: wanted running|"  # Kafka's words, and what was recorded
    rf"({GROUP}|{LONG}|billing|olga|json|orders|test-[\w-]+| |\[0\]@\d)+"
)


def visit(page: Page, site: str, visits: Iterable[Visit], topic: str = "") -> None:
    """Look at each of these pages in all eight forms."""
    for each in visits:
        path, act = (each, None) if isinstance(each, str) else each
        said: list[set[str]] = []
        for language in ("en", "de"):
            page.context.add_cookies([{"name": django_settings.LANGUAGE_COOKIE_NAME, "value": language, "url": site}])
            page.goto("/tkcons/" + path.format(topic=topic))
            if act is not None:
                act(page)
            page.locator("main, #main").first.wait_for()
            assert page.locator("html").get_attribute("lang") == language, path
            look(page, path)
            said.append({text for text in page.evaluate(TEXTS) if re.search(r"[^\W\d_]{2}", text)})
        assert [text for text in said[0] & said[1] if not SAME.fullmatch(text)] == [], path


def look(page: Page, path: str) -> None:
    for size in (PHONE, DESK):
        page.set_viewport_size(size["viewport"])
        for question in (wcag.TOO_WIDE, wcag.CUT_OFF, wcag.HEADINGS, wcag.UNLABELLED, wcag.UNNAMED):
            assert page.evaluate(question) == [], (path, size)
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme, reduced_motion="reduce")
            assert page.evaluate(wcag.POOR_CONTRAST) == [], (path, size, theme)


@pytest.fixture
def topic(make_topic) -> str:
    return make_topic(name=f"test-{uuid.uuid4().hex}-with-a-rather-long-name")


def fill(topic: str, admin_user, produce) -> None:
    """Something of everything, and all of it rather long."""
    many = tuple((f"name-{number}", b"v" * 50) for number in range(9))
    store("x" * 3_000, "a long sentence " * 50, None, b"\xff", key="k" * 100, topic=LONG, headers=many)
    store('{"number": 1, "text": "t", "null": null, "list": [{}]}', topic="json")
    produce(topic, "x" * 3_000, b"\xff", None, '{"a": {"b": 1}}', key="k" * 100, headers=[("h" * 200, "v" * 500)])
    place(topic, 0, GROUP, clusters.describe([topic])[0].id)
    write_letter(1, cause="1" * 2_000, traceback="t" * 3_000, value=b"v" * 3_000)
    for number, state in enumerate(("discarded", "requested", "resent"), 2):
        write_letter(number, state=state, changed_by="olga", group="billing", cause="3")
    group, now = Group.objects.create(name=GROUP, desired="running", changed_by="olga"), timezone.now()
    told = {"host": "h", "started_at": now, "seen_at": now + timedelta(hours=1)}  # alive throughout
    row = {"topic": topic, "partition": 0, "position": 1_000, "end": 2_000, "lag": 1_000}
    Member.objects.create(group=group, name="host:1:1", pid=1, state="running", partitions=[row], stored=9_999, **told)
    Member.objects.create(group=group, name="host:2:2", pid=2, state="failed", error="2" * 500, in_web=True, **told)
    slots = range(int(time.time()) - 60, int(time.time()) + 600)
    Sample.objects.bulk_create(Sample(group=GROUP, member="m", slot=s, lag=s % 20, stored=s % 7) for s in slots)
    trail.note(Caller("admin", admin_user), GROUP, "wanted running", row=group)


@pytest.mark.kafka
def test_every_page_in_every_window_theme_and_language(page: Page, live_server, sink, produce, admin_user):
    visit(page, live_server.url, EMPTY, sink)
    fill(sink, admin_user, produce)
    visit(page, live_server.url, [*FILLED, *ACTS], sink)


def test_who_may_not_and_who_must_log_in(page: Page, settings, live_server, django_user_model):
    settings.DEBUG = False
    visit(page, live_server.url, ["read"])
    user = django_user_model.objects.create_user("olga", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_payload"))
    client = Client()
    client.force_login(user)
    cookie = client.cookies["sessionid"].value
    page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": live_server.url}])
    visit(page, live_server.url, ["read", "status", "produce"])
