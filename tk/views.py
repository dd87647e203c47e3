"""/tkprod: one message from an HTTP request to Kafka, answered after the brokers' acknowledgement."""

import logging
import time

from django.conf import settings as django_settings
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from tk import access, answer, idempotency, metrics, producer
from tk import request as requests
from tk.access import Caller
from tk.answer import Answer
from tk.atomic import non_atomic
from tk.conf import settings
from tk.errors import BadRequest, GetRefused, HttpError, NotSent, TkError
from tk.record import Receipt, Record

logger = logging.getLogger(__name__)


@csrf_exempt  # tk.access checks, by Origin, Sec-Fetch-Site and for sessions Django's token
@non_atomic  # no transaction is held while the brokers answer
def produce(request: HttpRequest) -> HttpResponse:
    """GET ?message=hello (while GET_PRODUCES) or POST: `Produced message.`, or JSON where it is asked for."""
    began = time.monotonic()
    as_json = answer.wants_json(request.headers.get("Accept", ""))
    try:
        given, code = _produce(request, as_json=as_json)
    except TkError as error:
        metrics.observe(error.code, time.monotonic() - began)
        return refusal(error, as_json=as_json)
    metrics.observe(code, time.monotonic() - began)
    return _response(given)


def admit(request: HttpRequest) -> Caller:
    """Who may produce here by this method. Raises GetRefused, CrossSite, Unauthenticated, Forbidden, or NotSent where the
    database that knows does not answer."""
    gets = django_settings.DEBUG if settings.GET_PRODUCES is None else settings.GET_PRODUCES
    if request.method != "POST" and not (gets and request.method == "GET"):
        raise GetRefused
    try:
        caller = access.identify(request)
        access.require(caller, "tk.produce")
    except (DatabaseError, InterfaceError) as error:
        raise NotSent("The database does not answer, so it is not known who may produce: try again.") from error
    return caller


def _produce(request: HttpRequest, *, as_json: bool) -> tuple[Answer, str]:
    """The answer, and what the metrics count it as."""
    caller = admit(request)
    record = _read(request)
    access.require(caller, "tk.produce", record.topic)

    def produced(receipt: Receipt) -> Answer:
        logger.debug(
            "produced",
            extra={
                "action": "produce",
                "topic": receipt.topic,
                "partition": receipt.partition,
                "offset": receipt.offset,
                "caller": caller.name,
            },
        )
        return answer.produced(receipt, as_json=as_json)

    key = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return produced(producer.send(record)), "produced"
    name = idempotency.Name(caller.identity or caller.name, request.method or "", request.path, key)
    given, repeated = idempotency.once(name, record, produced)
    return given, "repeated" if repeated else "produced"


def _read(request: HttpRequest) -> Record:
    query = request.META.get("QUERY_STRING", "").encode("latin-1", "replace")
    if request.method == "GET":
        return requests.read(query, "", "", bytes)
    return requests.read(
        query,
        request.META.get("CONTENT_TYPE", ""),
        request.META.get("HTTP_CONTENT_ENCODING", ""),
        lambda: _body(request),
    )


def _body(request: HttpRequest) -> bytes:
    try:
        length = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError as error:
        raise BadRequest("The Content-Length is not a number.") from error
    if length > requests.body_limit():
        raise requests.too_large(length)
    try:
        body = request.body
    except RequestDataTooBig as error:  # the project's own limit
        raise requests.too_large(length) from error
    except UnreadablePostError as error:
        raise BadRequest("The body did not arrive whole.") from error
    if len(body) > requests.body_limit():
        raise requests.too_large(len(body))
    return body


def refusal(error: HttpError, *, as_json: bool) -> HttpResponse:
    """The answer to a request that failed; see tk.answer.refused."""
    return _response(answer.refused(error, as_json=as_json))


def _response(given: Answer) -> HttpResponse:
    response = HttpResponse(given.body, status=given.status, content_type=given.content_type)
    for name, value in given.headers:
        response[name] = value
    return response
