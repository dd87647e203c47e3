#!/usr/bin/env python
"""Django's command line, with the defaults of a developer's machine."""

import os
import sys
import uuid


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tutorialkafka.settings")
    # Who types `manage.py` works on a checkout: without SECRET_KEY the key kept in DATA serves (see settings.py).
    os.environ.setdefault("TUTORIALKAFKA_CHECKOUT", "1")
    if sys.argv[1:2] == ["runserver"]:
        os.environ.setdefault("DJANGO_DEBUG", "1")
        # One start of the server: the autoreloader's children and their reloads inherit it (see tkcons.server).
        os.environ.setdefault("TUTORIALKAFKA_START", uuid.uuid4().hex)
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
