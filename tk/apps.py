from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TkConfig(AppConfig):
    name = "tk"
    verbose_name = _("Kafka: produce")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from tk import checks  # noqa: F401  registers the system checks
