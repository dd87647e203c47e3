"""Dead letters as a person uses them: found, looked at, discarded, handled again."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.paneling import GROUP, click, write_letter
from tests.browser.sizes import BOTH
from tkcons.models import DeadLetter

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SIZES = pytest.mark.parametrize("page", **BOTH, indirect=True)


@SIZES
def test_a_dead_letter_is_found_looked_at_and_discarded(page: Page):
    for number in range(60):
        write_letter(number, group="billing" if number == 7 else GROUP)
    page.goto("/tkcons/deadletters")
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(50)
    page.get_by_role("link", name="Older").click()
    expect(rows).to_have_count(10)
    page.get_by_label("Group").fill("billing")
    page.get_by_label("State").select_option("waiting")
    click(page, "Find")
    expect(rows).to_have_count(1)
    rows.first.get_by_role("link").click()
    for text in ("negative total 7", "the key", "source", "shop", '"total": -3'):
        expect(page.locator("main")).to_contain_text(text)
    page.get_by_text("Traceback", exact=True).click()
    expect(page.get_by_text("Traceback (most recent call last): here")).to_be_visible()
    click(page, "Discard…")
    assert DeadLetter.objects.get(group="billing").state == "waiting"
    click(page, "Discard")
    expect(page.locator(".badge").first).to_have_text("discarded")
    settled = DeadLetter.objects.get(group="billing")
    assert (settled.state, settled.changed_by) == ("discarded", "local")


@SIZES
def test_several_dead_letters_are_handled_again_after_one_question(page: Page):
    for number in range(3):
        write_letter(number)
    page.goto("/tkcons/deadletters")
    for box in page.locator("tbody").get_by_role("checkbox").all()[:2]:
        box.check()
    click(page, "Handle the selected again…")
    expect(page.locator("h1")).to_have_text("Handle 2 dead letters again?")
    page.get_by_role("link", name="Cancel").click()
    assert DeadLetter.objects.filter(state="requested").count() == 0
    for box in page.locator("tbody").get_by_role("checkbox").all()[:2]:
        box.check()
    click(page, "Handle the selected again…")
    click(page, "Handle again")
    expect(page.locator(".badge.warn")).to_have_count(2)
    assert DeadLetter.objects.filter(state="requested").count() == 2
