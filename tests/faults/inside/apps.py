import os

from django.apps import AppConfig


class InsideConfig(AppConfig):
    name = "tests.faults.inside"
    label = "faults_inside"

    def ready(self) -> None:
        from tests.faults.inside import steps, without

        if os.environ.get("FAULTS_PRELOAD"):
            from tk import producer

            producer.current()
        without.take_out()
        steps.watch()
