"""Take the pictures of the README from a running copy: make screenshots (PORT=8000 by default)."""

import os
from pathlib import Path

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


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
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
