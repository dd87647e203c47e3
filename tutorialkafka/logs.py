"""Structured logs: the apps log through the standard library, structlog renders, on standard error."""

import logging
import logging.config
import warnings
from collections.abc import Mapping

import structlog


class _NotReady(logging.Filter):
    """Takes out that /readyz said 503: that is its answer to who asks every second, and no error."""

    def filter(self, record: logging.LogRecord) -> bool:
        request = getattr(record, "request", None)
        return not str(getattr(request, "path", "")).rstrip("/").endswith("/readyz")


def configure(settings: Mapping[str, object]) -> None:
    """Set up logging from ``{"level": ..., "json": ...}``: JSON lines, or text for a terminal."""
    # whitenoise answers ASGI requests by synchronous iterators; its files are small, and the warning is its business.
    warnings.filterwarnings("ignore", message="StreamingHttpResponse must consume synchronous iterators")
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = structlog.dev.ConsoleRenderer(colors=False)
    if settings["json"]:
        shared.append(structlog.processors.format_exc_info)
        renderer = structlog.processors.JSONRenderer(default=repr)
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "structured": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": shared,
                    "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
                }
            },
            "filters": {"readiness": {"()": _NotReady}},
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
            "loggers": {
                "django": {"handlers": []},  # Django's own handler would say everything a second time while DEBUG is on
                "django.request": {"filters": ["readiness"]},
            },
            "root": {"handlers": ["stderr"], "level": settings["level"]},
        }
    )
