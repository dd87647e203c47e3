"""/tkprod: from an HTTP request to Kafka, answered after the brokers' acknowledgement."""

import logging
import time

from django.conf import settings as django_settings
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from tk import access, answer, batch, idempotency, metrics, producer
from tk import request as requests
from tk.access import Caller
from tk.answer import Answer
from tk.atomic import non_atomic
from tk.body import Body
from tk.conf import settings
from tk.errors import BadRequest, GetRefused, HttpError, NotSent, TkError
from tk.record import Receipt
from tk.streams import stream

logger = logging.getLogger(__name__)


@csrf_exempt  # tk.access checks, by Origin, Sec-Fetch-Site and for sessions Django's token
@non_atomic  # no transaction is held while the brokers answer
def produce(request: HttpRequest) -> HttpResponseBase:
    """GET ?message=hello (while GET_PRODUCES) or POST: `Produced message.`, or JSON where it is asked for.

    Many records (NDJSON, a JSON array, `?lines=1`) get an answer each; see tk.batch.
    """
    began = time.monotonic()
    as_json = answer.wants_json(request.headers.get("Accept", ""))
    try:
        response, code = _produce(request, as_json=as_json)
    except TkError as error:
        metrics.observe(error.code, time.monotonic() - began)
        return refusal(error, as_json=as_json)
    metrics.observe(code, time.monotonic() - began)
    return response


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


def _produce(request: HttpRequest, *, as_json: bool) -> tuple[HttpResponseBase, str]:
    """The answer, and what the metrics count it as."""
    caller = admit(request)
    query = request.META.get("QUERY_STRING", "").encode("utf-8", "surrogateescape")
    kind, encoding, body = "", "", Body(request)
    if request.method == "POST":
        kind = request.META.get("CONTENT_TYPE", "")
        encoding = request.META.get("HTTP_CONTENT_ENCODING", "")
        if requests.is_batch(kind, query) or (requests.may_be_batch(kind) and requests.may_be_batch(kind, body.peek())):
            plan = batch.plan(query, kind, encoding)
            access.require(caller, "tk.produce", plan.topic)
            return _batch(request, plan, body), "batch"
    record = requests.read(query, kind, encoding, body.whole)
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
        return _response(produced(producer.send(record))), "produced"
    name = idempotency.Name(caller.identity or caller.name, request.method or "", request.path, key)
    given, repeated = idempotency.once(name, record, produced)
    return _response(given), "repeated" if repeated else "produced"


def _batch(request: HttpRequest, plan: batch.Plan, body: Body) -> HttpResponseBase:
    if "HTTP_IDEMPOTENCY_KEY" in request.META:
        raise BadRequest("A batch takes no Idempotency-Key: what its answer says was produced need not be sent again.")
    if body.length > settings.MAX_BATCH_BYTES:
        raise requests.too_large(settings.MAX_BATCH_BYTES)
    response = stream(request, batch.produce(plan, body.pieces()), answer.JSON if plan.summary else requests.NDJSON)
    for name, value in answer.COMMON:
        response[name] = value
    return response


def refusal(error: HttpError, *, as_json: bool) -> HttpResponse:
    """The answer to a request that failed; see tk.answer.refused."""
    return _response(answer.refused(error, as_json=as_json))


def _response(given: Answer) -> HttpResponse:
    response = HttpResponse(given.body, status=given.status, content_type=given.content_type)
    for name, value in (*answer.COMMON, *given.headers):
        response[name] = value
    return response
