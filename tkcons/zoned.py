"""Times that people type: in the zone that their browser names in the field `zone`, else in the server's."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class ZonedForm(forms.Form):
    """Its times are read in the zone that it is given. An unknown zone is an error of the field, and so is a time that UTC
    does not have: in a zone the calendar's first day may begin before it."""

    zone = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)

    def full_clean(self) -> None:
        with timezone.override(self._zone()):
            super().full_clean()

    def clean_zone(self) -> str:
        name: str = self.cleaned_data["zone"]
        if name and self._zone() is None:
            raise forms.ValidationError(_("The zone is none that this server knows."))
        return name

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for name, value in list(cleaned.items()):
            try:
                if isinstance(value, datetime):
                    value.astimezone(UTC)
            except OverflowError:
                self.add_error(name, _("There is no such time in UTC."))
        return cleaned

    def _zone(self) -> ZoneInfo | None:
        """None: none is given or it is unknown, and the server's serves."""
        name = self.data.get(self.add_prefix("zone"), "")
        try:
            return ZoneInfo(name) if name else None
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return None
