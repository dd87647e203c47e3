from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TkrestConfig(AppConfig):
    name = "tkrest"
    verbose_name = _("Kafka: REST proxy")

    def ready(self) -> None:
        from tkrest import checks  # noqa: F401  registers the system checks
