from django.apps import AppConfig


class InsideConfig(AppConfig):
    name = "tests.faults.inside"
    label = "faults_inside"

    def ready(self) -> None:
        from tests.faults.inside import steps, without

        without.take_out()
        steps.watch()
