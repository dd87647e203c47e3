"""The page of messages, opened and read by tests."""

from playwright.sync_api import Page, expect


def rows(page: Page):
    return page.locator("#rows tr")


def go(page: Page, address: str = "/tkcons/read") -> None:
    """Open the page and wait until it follows."""
    page.goto(address)
    expect(page.locator("#live")).to_have_attribute("data-state", "live")
