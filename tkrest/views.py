"""The addresses of the REST Proxy v2: each view reads the request, calls one service, and writes its answer as JSON."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt

from tk import access
from tk.access import Caller
from tk.errors import TkError
from tkcons.errors import TkconsError
from tkcons.reader import VIEW
from tkrest import bodies, cluster, consumers, errors, media
from tkrest import produce as producing
from tkrest.conf import settings
from tkrest.consume import Instance
from tkrest.errors import BadRequest, MethodNotAllowed, NoSuchAddress, RestError

logger = logging.getLogger(__name__)

_encoder = msgspec.json.Encoder()

# What a view gives: an object for JSON, or None for 204.
View = Callable[..., Any]


def _address(**methods: View) -> Callable[..., HttpResponse]:
    """A Django view that calls the view of the request's method: ``view(request, caller, **parts of the path)``."""

    @csrf_exempt  # tk.access checks, by Origin, Sec-Fetch-Site and for sessions Django's token
    @transaction.non_atomic_requests
    def answered(request: HttpRequest, **parts: Any) -> HttpResponse:
        try:
            caller = access.identify(request)
            view = methods.get(request.method or "")
            if view is None:
                raise MethodNotAllowed(", ".join(methods))
            kind = media.for_answer(request) if view is not _records else ""
            found = view(request, caller, **parts)
            response = found if isinstance(found, HttpResponse) else _response(found, kind)
        except (RestError, TkError, TkconsError) as error:
            response = _refused(error)
        patch_vary_headers(response, ["Accept", "Cookie", "Authorization"])
        return response

    return answered


def _response(found: Any, kind: str) -> HttpResponse:
    if found is None:
        response = HttpResponse(status=204)
        del response["Content-Type"]
        return response
    return HttpResponse(_encoder.encode(found), content_type=kind)


def _refused(error: RestError | TkError | TkconsError) -> HttpResponse:
    code = errors.code(error)
    response = HttpResponse(
        _encoder.encode({"error_code": code, "message": str(error)}), status=errors.status(code), content_type=media.V2
    )
    if error.retry_after is not None:
        response["Retry-After"] = str(error.retry_after)
    if isinstance(error, MethodNotAllowed):
        response["Allow"] = error.allowed
    if response.status_code == 401:
        response["WWW-Authenticate"] = "Bearer"
    if response.status_code >= 500:
        logger.warning("request failed", extra={"action": "rest", "code": code, "error": str(error)})
    return response


# Topics, partitions, brokers.


def _topics(request: HttpRequest, caller: Caller) -> Any:
    return cluster.names(caller)


def _topic(request: HttpRequest, caller: Caller, topic: str) -> Any:
    return cluster.topic(caller, topic)


def _partitions(request: HttpRequest, caller: Caller, topic: str) -> Any:
    return cluster.partitions(caller, topic)


def _partition(request: HttpRequest, caller: Caller, topic: str, partition: str) -> Any:
    return cluster.partition(caller, topic, int(partition))


def _partition_offsets(request: HttpRequest, caller: Caller, topic: str, partition: str) -> Any:
    return cluster.offsets(caller, topic, int(partition))


def _brokers(request: HttpRequest, caller: Caller) -> Any:
    return {"brokers": cluster.brokers(caller)}


def _produce(request: HttpRequest, caller: Caller, topic: str, partition: str | None = None) -> Any:
    access.require(caller, cluster.PRODUCE)  # before the body is read
    body = bodies.need(bodies.read(request, producing.BODIES[media.embedded_in(request)]))
    return producing.produce(caller, topic, body.records, None if partition is None else int(partition))


def _missing(request: HttpRequest, caller: Caller, path: str = "") -> Any:
    raise NoSuchAddress


# Consumers.


def _create(request: HttpRequest, caller: Caller, group: str) -> Any:
    access.require(caller, VIEW)
    made = consumers.create(caller, group, bodies.read(request, bodies.Consumer) or bodies.Consumer())
    where = reverse("tkrest:instance", kwargs={"group": group, "instance": made.name})
    # BASE_URI is the address of this very process; the one that the request came by may lead to another.
    base = settings.BASE_URI
    uri = request.build_absolute_uri(where) if base is None else base.rstrip("/") + where[where.rindex("/consumers/") :]
    return {"instance_id": made.name, "base_uri": uri}


def _delete(request: HttpRequest, caller: Caller, group: str, instance: str) -> Any:
    return consumers.delete(caller, group, instance)


def _of_instance(service: Callable[..., Any], body: type[Any] | None = None) -> View:
    """A view that calls ``service(caller, instance)``, or ``service(caller, instance, the request's body)``."""

    def view(request: HttpRequest, caller: Caller, group: str, instance: str) -> Any:
        found = consumers.find(caller, group, instance)
        if body is None:
            return service(caller, found)
        return service(caller, found, bodies.need(bodies.read(request, body)))

    return view


def _subscribed(caller: Caller, found: Instance) -> Any:
    return {"topics": list(found.topics)}


def _unsubscribe(caller: Caller, found: Instance) -> Any:
    with found.turn():
        found.unsubscribe()


def _assigned(caller: Caller, found: Instance) -> Any:
    return {"partitions": [{"topic": topic, "partition": number} for topic, number in found.assignment()]}


def _commit(request: HttpRequest, caller: Caller, group: str, instance: str) -> Any:
    found = consumers.find(caller, group, instance)
    wait = request.GET.get("async", "false").lower() != "true"
    return consumers.commit(caller, found, bodies.read(request, bodies.Offsets), wait=wait)


def _committed(request: HttpRequest, caller: Caller, group: str, instance: str) -> Any:
    found = consumers.find(caller, group, instance)
    return consumers.committed(caller, found, bodies.read(request, bodies.Partitions))


def _seek_end(request: HttpRequest, caller: Caller, group: str, instance: str, end: str) -> Any:
    found = consumers.find(caller, group, instance)
    given = bodies.need(bodies.read(request, bodies.Partitions))
    return consumers.seek_end(caller, found, given, beginning=end == "beginning")


def _records(request: HttpRequest, caller: Caller, group: str, instance: str) -> Any:
    found = consumers.find(caller, group, instance)
    kind = media.for_records(request, found.options.embedded)
    timeout, most = _natural(request, "timeout"), _natural(request, "max_bytes")
    return _response(consumers.read(caller, found, timeout, most), kind)


def _natural(request: HttpRequest, name: str) -> int | None:
    """A whole number in the query; -1 and none: not given, as the REST Proxy has it. Raises BadRequest."""
    text = request.GET.get(name, "-1")
    if text == "-1":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 12 and int(text) > 0):
        raise BadRequest(f"The query's {name} is a positive number.")
    return int(text)


topics = _address(GET=_topics)
topic = _address(GET=_topic, POST=_produce)
partitions = _address(GET=_partitions)
partition = _address(GET=_partition, POST=_produce)
partition_offsets = _address(GET=_partition_offsets)
brokers = _address(GET=_brokers)
group = _address(POST=_create)
instance = _address(DELETE=_delete)
subscription = _address(
    GET=_of_instance(_subscribed),
    POST=_of_instance(consumers.subscribe, bodies.Topics),
    DELETE=_of_instance(_unsubscribe),
)
assignments = _address(GET=_of_instance(_assigned), POST=_of_instance(consumers.assign, bodies.Partitions))
offsets = _address(GET=_committed, POST=_commit)
positions = _address(POST=_of_instance(consumers.seek, bodies.Offsets))
ends = _address(POST=_seek_end)
records = _address(GET=_records)
missing = _address(**dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), _missing))
