"""The ASGI entry: granian and uvicorn."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tutorialkafka.settings")

from django.core.asgi import get_asgi_application

from tutorialkafka.lifespan import lifespan

application = lifespan(get_asgi_application())

from tkcons import server  # after the line above: the app registry is ready

server.started()
