"""What a starting web server means for tkcons: text files are emptied, groups are resumed.

The project's wsgi.py and asgi.py call `started()`; nothing else does, so `migrate`, a shell, tests and the
autoreloader's parent start nothing and clear nothing.
"""

import logging
import os

from django.conf import settings as django_settings

from tkcons import groups, web
from tkcons.conf import settings
from tkcons.errors import TkconsError
from tkcons.sinks.file import TextFileSink
from tkcons.viewer import ending

logger = logging.getLogger(__name__)

# One start of the server, however many workers, reloads and restarted workers it has: they inherit the variable.
TOKEN = "TUTORIALKAFKA_START"  # noqa: S105


def started() -> None:
    """Tell that a process of the web server serves now. Without a token in the environment no file is emptied."""
    token = os.environ.get(TOKEN, "")
    if token:
        clear_files(token)
    web.resume()
    ending.watch()


def clear_files(token: str) -> None:
    """Empty the text files for the start that the token names, each once."""
    default = django_settings.DEBUG if settings.CLEAR_ON_START is None else settings.CLEAR_ON_START
    for spec in groups.specs().values():
        sink = spec.sink()
        if not isinstance(sink, TextFileSink):
            continue
        if default if sink.clear_on_start is None else sink.clear_on_start:
            try:
                sink.announce(token)
            except TkconsError as error:  # the server serves all the same; the consumer tells the failure too
                logger.warning("not emptied", extra={"action": "clear", "group": spec.name, "error": str(error)})
