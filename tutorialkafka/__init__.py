"""The Django project: settings from the environment, URLs, ASGI and WSGI entries."""
