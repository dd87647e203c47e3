"""What the tests of handlers share: an effect that can be counted, and what became of messages."""

from django.contrib.auth.models import Group as Role

from tkcons import Received
from tkcons.models import DeadLetter

PAUSES = (0.05, 0.2)


def note(name: str) -> None:
    """A handler's effect in the database: a row that can be counted."""
    Role.objects.create(name=name)  # the name is unique: a second time fails


def noted() -> list[str]:
    return list(Role.objects.order_by("pk").values_list("name", flat=True))


def text(message: Received) -> str:
    return bytes(message.value).decode()


def letters(group: str) -> list[DeadLetter]:
    return list(DeadLetter.objects.filter(group=group).order_by("offset"))
