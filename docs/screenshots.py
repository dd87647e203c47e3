"""Take the pictures of the README from a running copy (`make run`), with messages of its own: make screenshots
(PORT=8000 by default)."""

import os
import time
from pathlib import Path

import httpx
from playwright.sync_api import sync_playwright

from tests.browser import chromium

SITE = f"http://localhost:{os.environ.get('PORT') or 8000}"
IMAGES = Path(__file__).parent / "images"
PICTURES = {
    "read": ("/tkcons/read", "light", 1100),
    "read-dark": ("/tkcons/read", "dark", 1100),
    "read-phone": ("/tkcons/read", "light", 390),
    "consumer": ("/tkcons/status", "light", 1100),
}

SECONDS = 60  # of messages, for the charts


def produce() -> None:
    """Orders with keys and headers, and lines of text, at a rate that rises and falls."""
    until, number = time.monotonic() + SECONDS, 0
    while time.monotonic() < until:
        number += 1
        order = {"id": number, "customer": {"name": "Barbara", "email": "a@example.org"}, "total": f"{number * 3}.90"}
        body = {"message": order, "key": f"order-{number}", "headers": {"source": "shop"}}
        if number % 3 == 0:
            body = {"message": f"hello {number}"}
        httpx.post(f"{SITE}/tkprod", json=body).raise_for_status()
        time.sleep(0.05 + 0.25 * (number // 40 % 2))


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    produce()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.FLAGS)
        for name, (path, scheme, width) in PICTURES.items():
            page = browser.new_page(viewport={"width": width, "height": 640}, color_scheme=scheme, locale="en")
            page.goto(SITE + path)
            if path == "/tkcons/read":
                page.locator("#live[data-state=live]").wait_for()
            page.screenshot(path=IMAGES / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
