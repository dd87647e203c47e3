"""/tkprod: one message from an HTTP request to Kafka, answered after the brokers' acknowledgement."""

import logging

from django.conf import settings as django_settings
from django.core.exceptions import RequestDataTooBig
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from tk import access, producer
from tk import request as requests
from tk.conf import settings
from tk.errors import BadRequest, GetRefused, HttpError, TkError
from tk.record import Receipt, Record

logger = logging.getLogger(__name__)


@csrf_exempt  # tk.access checks, by Origin, Sec-Fetch-Site and for sessions Django's token
@transaction.non_atomic_requests  # no transaction is held while the brokers answer
def produce(request: HttpRequest) -> HttpResponse:
    """GET ?message=hello (while GET_PRODUCES) or POST: `Produced message.`, or JSON where it is asked for."""
    as_json = "application/json" in request.headers.get("Accept", "")
    try:
        receipt = _produce(request)
    except TkError as error:
        return refusal(error, as_json=as_json)
    if as_json:
        return JsonResponse(
            {
                "topic": receipt.topic,
                "partition": receipt.partition,
                "offset": receipt.offset,
                "timestamp": receipt.timestamp,
            }
        )
    return HttpResponse("Produced message.", content_type="text/plain; charset=utf-8")


def _produce(request: HttpRequest) -> Receipt:
    gets = django_settings.DEBUG if settings.GET_PRODUCES is None else settings.GET_PRODUCES
    if request.method != "POST" and not (gets and request.method == "GET"):
        raise GetRefused
    caller = access.identify(request)
    access.require(caller, "tk.produce")
    record = _read(request)
    access.require(caller, "tk.produce", record.topic)
    receipt = producer.send(record)
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
    return receipt


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
    """The answer to a request that failed: the error's status and message, with its code in a header or in JSON."""
    text = str(error)
    response: HttpResponse = (
        JsonResponse({"code": error.code, "error": text})
        if as_json
        else HttpResponse(text + "\n", content_type="text/plain; charset=utf-8")
    )
    response.status_code = error.status
    response["X-Error-Code"] = error.code
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    if error.status == 405:
        response["Allow"] = "POST"
    if error.status == 401:
        response["WWW-Authenticate"] = "Bearer"
    if error.status >= 500:
        logger.warning("not produced", extra={"action": "produce", "code": error.code})
    return response
