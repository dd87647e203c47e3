"""tkrest without a broker: content types, codes, checks."""

from io import BytesIO

import pytest
from django.test import RequestFactory

from tk import errors as tk_errors
from tkcons import errors as tkcons_errors
from tkrest import bodies, checks, errors, media
from tkrest.errors import BadRequest, FormatMismatch, NotAcceptable, RestError, Unprocessable, UnsupportedFormat

V2 = "application/vnd.kafka.v2+json"


def request(accept: str = "*/*", kind: str = "", body: bytes = b"x"):
    return RequestFactory().generic("POST", "/", body, content_type=kind, headers={"accept": accept})


@pytest.mark.parametrize(
    ("kind", "embedded"),
    [
        ("application/vnd.kafka.json.v2+json", "json"),
        ("application/vnd.kafka.json+json", "json"),
        ("Application/Vnd.Kafka.Binary.v2+JSON; charset=UTF-8", "binary"),
        (V2, "binary"),
        ("", "binary"),
        ("application/json", "binary"),
        ("application/octet-stream", "binary"),
    ],
)
def test_the_embedded_format_of_a_request(kind, embedded):
    assert media.embedded_in(request(kind=kind)) == embedded


@pytest.mark.parametrize(
    "kind",
    [
        "application/vnd.kafka.avro.v2+json",
        "application/vnd.kafka.json.v3+json",
        "application/vnd.kafka.v2+xml",
        "text/plain",
        "application/json; charset=latin-1",
        "application/json; charset*=x",
    ],
)
def test_a_type_that_is_not_taken(kind):
    with pytest.raises(UnsupportedFormat):
        media.embedded_in(request(kind=kind))


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", V2),
        ("application/*", V2),
        ("application/json", "application/json"),
        ("application/vnd.kafka.json.v2+json, application/json;q=0.5", "application/vnd.kafka.json.v2+json"),
    ],
)
def test_the_type_of_an_answer(accept, kind):
    assert media.for_answer(request(accept)) == kind


@pytest.mark.parametrize("accept", ["text/html", "application/xml, text/*", "x", "a/b; charset*=x", ";;,,"])
def test_nothing_acceptable(accept):
    with pytest.raises(NotAcceptable):
        media.for_answer(request(accept))
    with pytest.raises(NotAcceptable):
        media.for_records(request(accept), "json")


def test_records_are_of_the_instances_format():
    assert media.for_records(request("application/vnd.kafka.json.v2+json"), "json") == media.of("json")
    assert media.for_records(request(), "json") == media.of("json")
    assert media.for_records(request(V2), "binary") == V2
    for accept in (V2, media.of("binary"), "application/vnd.kafka.avro.v2+json"):
        with pytest.raises(FormatMismatch):
            media.for_records(request(accept), "json")


def test_every_error_has_a_code_whose_first_digits_are_its_status():
    def below(kind):
        return [kind] + [each for sub in kind.__subclasses__() for each in below(sub)]

    for kind in below(RestError) + below(tk_errors.TkError) + below(tkcons_errors.TkconsError):
        try:
            error = kind()
        except TypeError:  # it needs more than a message
            continue
        assert 400 <= errors.status(errors.code(error)) < 600
    assert errors.code(tk_errors.QueueFull()) == 50302
    assert errors.code(tk_errors.CrossSite()) == 40301
    assert errors.code(tk_errors.BadHost()) == 400


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"{", BadRequest),
        (b"\xff", BadRequest),
        (b'{"topics": ["\xff"]}', BadRequest),
        (b"[" * 100_000, (BadRequest, Unprocessable)),
        (b'{"topics": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", (BadRequest, Unprocessable)),
        (b"NaN", BadRequest),
        (b"1", Unprocessable),
        (b'{"topics": 1}', Unprocessable),
    ],
)
def test_a_body_that_is_not_what_it_should_be(body, error):
    with pytest.raises(error):
        bodies.read(request(body=body), bodies.Topics)


def test_numbers_and_flags_of_a_consumer_may_be_text():
    body = b'{"auto.commit.enable": "false", "fetch.min.bytes": "5", "consumer.request.timeout.ms": 7}'
    found = bodies.read(request(body=body), bodies.Consumer)
    assert (found.auto_commit_enable, found.fetch_min_bytes, found.request_timeout_ms) == (False, 5, 7)


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ({}, []),
        ({"WRONG": 1}, ["tkrest.E001"]),
        ({"MAX_INSTANCES": 0}, ["tkrest.E003"]),
        ({"READ_MS": "1"}, ["tkrest.E003"]),
        ({"FETCH_KIB": 1_000}, ["tkrest.E003"]),
        ({"BASE_URI": "example.org"}, ["tkrest.E004"]),
        ({"BASE_URI": "https://example.org/rest"}, []),
        ({"AUTO_OFFSET_RESET": "newest"}, ["tkrest.E005"]),
        ({"GROUPS": "web-*"}, ["tkrest.E005"]),
    ],
)
def test_the_checks(settings, given, ids):
    settings.TKREST = given
    assert [found.id for found in checks.check_names(None) + checks.check_values(None)] == ids


def test_tkrest_needs_the_other_apps(settings):
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != "tkcons"]
    assert [found.id for found in checks.check_names(None)] == ["tkrest.E002"]


def test_half_a_body_is_none():
    """Of nothing at all, too: offsets without a body are all that was given."""
    for arrived in (b"", b'{"topics": ["a"]}'):
        half = RequestFactory().request(
            **{"REQUEST_METHOD": "POST", "CONTENT_LENGTH": "40", "wsgi.input": BytesIO(arrived)}
        )
        with pytest.raises(BadRequest, match="whole"):
            bodies.read(half, bodies.Topics)
