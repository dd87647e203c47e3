"""Who did what, kept where Django's admin keeps it: a LogEntry, where the admin is installed and the caller is a user.

The structured log tells it in any case, and rows that people steer have a `changed_by`.
"""

from typing import Any

from django.apps import apps
from django.db.models import Model

from tk.access import Caller

ADDED, CHANGED, DELETED = 1, 2, 3  # django.contrib.admin's numbers


def note(caller: Caller, what: str, message: str, flag: int = CHANGED, row: Model | None = None) -> None:
    """Record that the caller did this. what: the thing's name; row: the thing, if it is a row; message: not translated."""
    if caller.user is None or not apps.is_installed("django.contrib.admin"):
        return
    from django.contrib.admin.models import LogEntry
    from django.contrib.contenttypes.models import ContentType

    LogEntry.objects.create(
        user_id=caller.user.pk,
        content_type=None if row is None else ContentType.objects.get_for_model(row),
        object_id=None if row is None else str(row.pk),
        object_repr=what[:200],
        action_flag=flag,
        change_message=message,
    )


def recent(row: Model, count: int = 10) -> list[Any]:
    """The latest entries about this row, newest first; none where the admin is not installed."""
    if not apps.is_installed("django.contrib.admin"):
        return []
    from django.contrib.admin.models import LogEntry
    from django.contrib.contenttypes.models import ContentType

    entries = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(row), object_id=str(row.pk))
    return list(entries.select_related("user")[:count])
