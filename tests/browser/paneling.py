"""What tests of the panel share: its group, its buttons, a dead letter."""

from datetime import timedelta

from django.utils import timezone
from playwright.sync_api import Page

from tkcons.models import DeadLetter

GROUP = "tkcons.database"


def write_letter(number: int = 1, **fields: object) -> DeadLetter:
    made = timezone.now() - timedelta(minutes=number)
    given = {
        "id": f"{number:032x}",
        "group": GROUP,
        "topic": "orders",
        "topic_id": "i",
        "partition": 0,
        "offset": number,
        "key": b"the key",
        "value": b'{"total": -3}',
        "headers": '[["source", "shop"]]',
        "cause": f"ValueError: negative total {number}",
        "traceback": "Traceback (most recent call last): here",
        "tries": 5,
        "made_at": made,
        "changed_at": made,
    }
    return DeadLetter.objects.create(**given | fields)


def click(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()
