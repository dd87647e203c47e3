"""What holds for every page of the panel: without JavaScript, with a stranger's text."""

from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect

from tests.browser.hostile import HOSTILE, PARSED
from tests.browser.paneling import GROUP, click, write_letter
from tests.browser.sizes import BOTH
from tests.waiting import eventually
from tk import clusters
from tk.clusters import Option
from tkcons.models import DeadLetter, Group, Member, Message

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.kafka
@pytest.mark.parametrize("size", **BOTH)
def test_everything_works_without_javascript(browser: Browser, live_server, sink, size):
    context = browser.new_context(base_url=live_server.url, java_script_enabled=False, locale="en", **size)
    page = context.new_page()
    write_letter()
    page.goto("/tkcons/status")
    click(page, f"Start {GROUP}")
    assert Group.objects.get().desired == "running"
    page.goto("/tkcons/produce")
    page.get_by_label("Value", exact=True).fill("hello")
    page.get_by_label("How often").fill("2")
    click(page, "Send")
    expect(page.get_by_role("status")).to_contain_text("2 messages are in Kafka")
    eventually(lambda: Message.objects.count() == 2)
    page.get_by_role("link", name="Follow").first.click()
    expect(page.locator("#message")).to_contain_text("Stored by")
    expect(page.locator("#message time").first).to_contain_text("UTC")  # what a script turns into the viewer's
    page.get_by_role("link", name="Messages").click()
    page.get_by_text("Export", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("link", name="JSONL").click()
    assert "hello" in download.value.path().read_text()
    page.goto(f"/tkcons/topics/{sink}/messages")
    page.get_by_label("From offset").fill("1")
    click(page, "Look")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("hello")
    page.goto(f"/tkcons/group?name={GROUP}")
    click(page, f"Stop {GROUP}")
    eventually(lambda: not Member.objects.exists())
    click(page, "Move…")
    click(page, "Move")
    expect(page.locator("h1")).to_have_text("Moved")
    page.goto("/tkcons/deadletters")
    page.get_by_role("checkbox").check()
    click(page, "Discard the selected…")
    click(page, "Discard")
    assert DeadLetter.objects.get().state == "discarded"
    context.close()


PATHS = (
    "/tkcons/status",
    f"/tkcons/group?name={GROUP}",
    f"/tkcons/group/move?name={GROUP}&to=earliest",
    "/tkcons/topics",
    "/tkcons/topics/{topic}",
    "/tkcons/topics/{topic}/messages",
    "/tkcons/topics/{topic}/messages/0/0",
    "/tkcons/topics/{topic}/delete",
    "/tkcons/new-topic",
    "/tkcons/produce",
    "/tkcons/deadletters",
    "/tkcons/deadletters/00000000000000000000000000000001",
)


ACTIVE = ":is(script, img, iframe, style, math, svg[onload], a[hx-get])"


@pytest.mark.kafka
@pytest.mark.parametrize("page", **BOTH, indirect=True)
def test_a_strangers_text_stays_text(page: Page, sink, produce, monkeypatch):
    """In a message, a letter, a topic's configuration, and in what a process tells of itself and who steered it."""
    group, now = Group.objects.create(name=GROUP, changed_by=HOSTILE[0]), timezone.now()
    for number, text in enumerate(HOSTILE):
        produce(sink, text, key=text, headers=[(text, text)])
        hostile = dict.fromkeys(("group", "topic", "cause", "traceback", "changed_by"), text)
        write_letter(number + 1, **hostile, key=text.encode(), value=text.encode(), headers=None)
        told = {"name": text, "host": text, "error": text, "state": text[:20]}
        shown = [{"topic": sink, "partition": 0, "position": 1, "end": 2, "lag": 1}]
        Member.objects.create(group=group, pid=number, partitions=shown, started_at=now, seen_at=now, **told)
    later = now + timedelta(minutes=5)  # they are alive, however long the test takes
    Member.objects.update(seen_at=later)
    monkeypatch.setattr(clusters, "configuration", lambda name: [Option(text, text, own=True) for text in HOSTILE])
    letters = [f"/tkcons/deadletters/{number + 1:032x}" for number in range(len(HOSTILE))]
    peeks = [f"/tkcons/topics/{sink}/messages/0/{number}" for number in range(len(HOSTILE))]
    pages = [path.format(topic=sink) for path in PATHS]
    for path in [*pages, letters[0], peeks[0], "/tkcons/deadletters?q=x&group="]:
        page.goto(path)
        assert page.locator(f"main {ACTIVE}").count() == 0, path
    assert page.evaluate(PARSED, [letters[1:] + peeks[1:], f"main {ACTIVE}"]) == []
    for path, times in (
        (f"/tkcons/topics/{sink}/messages", 3),
        (f"/tkcons/topics/{sink}", 2),
        ("/tkcons/deadletters", 3),
        (f"/tkcons/group?name={GROUP}", 2),
    ):
        page.goto(path)
        whole = page.locator("main").text_content() or ""
        assert [text for text in HOSTILE if whole.count(text) < times] == [], path
    for text in (HOSTILE[0], HOSTILE[2]):
        page.goto("/tkcons/topics")
        page.get_by_label("Part of the name").fill(text)
        click(page, "Find")
        expect(page.get_by_label("Part of the name")).to_have_value(text)
