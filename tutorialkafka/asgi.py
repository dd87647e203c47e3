"""The ASGI entry: the fast lane of tk in front of Django."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tutorialkafka.settings")

from django.core.asgi import get_asgi_application

application = get_asgi_application()
