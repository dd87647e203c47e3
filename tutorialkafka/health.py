"""For balancers and Prometheus: is the process alive, can it work, what has it done."""

from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from tk import topics
from tk.atomic import non_atomic
from tk.errors import TkError


@require_safe
@non_atomic
def alive(request: HttpRequest) -> HttpResponse:
    """200 while the process serves."""
    return HttpResponse("alive\n", content_type="text/plain; charset=utf-8")


@require_safe
@non_atomic
def ready(request: HttpRequest) -> HttpResponse:
    """200 when Kafka and the database answer, else 503 saying which does not."""
    parts = {"kafka": "ok", "database": "ok"}
    try:
        topics.ping()
    except TkError as error:
        parts["kafka"] = error.code
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        parts["database"] = "unavailable"
    return JsonResponse(parts, status=200 if set(parts.values()) == {"ok"} else 503)


@require_safe
@non_atomic
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus' text format."""
    return HttpResponse(generate_latest(), content_type=CONTENT_TYPE_LATEST)
