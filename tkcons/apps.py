from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules
from django.utils.translation import gettext_lazy as _


class TkconsConfig(AppConfig):
    name = "tkcons"
    verbose_name = _("Kafka: consume")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from tkcons import checks  # noqa: F401  registers the system checks

        autodiscover_modules("kafka_handlers")  # of every installed app, as Django's admin does with admin.py
