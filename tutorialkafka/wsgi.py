"""The WSGI entry: ``manage.py runserver`` and gunicorn."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tutorialkafka.settings")

from django.core.wsgi import get_wsgi_application

from tutorialkafka.content_type import any_content_type

application = any_content_type(get_wsgi_application())

from tkcons import server  # after the line above: the app registry is ready

server.started()
