"""The ASGI entry: granian and uvicorn."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tutorialkafka.settings")

from django.core.asgi import get_asgi_application

from tutorialkafka.content_type import any_content_type
from tutorialkafka.lifespan import lifespan

django_application = any_content_type(get_asgi_application())  # before the next import: it makes the app registry ready

from tk import collector
from tk.asgi import fast_lane
from tkcons.asgi import event_streams

application = fast_lane(event_streams(lifespan(django_application)))

from tkcons import server  # after the line above: the app registry is ready

server.started()
collector.spare()
