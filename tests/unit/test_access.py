from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.test import RequestFactory
from django.utils import timezone

from tk import access
from tk.errors import CrossSite, Forbidden, Unauthenticated
from tk.models import Token

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _no_memory():
    access._believed.clear()


def request(**meta: str):
    made = RequestFactory().get("/", **{"SERVER_NAME": "localhost", **meta})
    made.user = AnonymousUser()
    return made


def token(**fields) -> str:
    text, digest = access.new_token()
    Token.objects.create(name="t", digest=digest, **fields)
    return text


def bearer(text: str):
    return request(HTTP_AUTHORIZATION=f"Bearer {text}")


def test_in_debug_the_person_at_this_machine_may_do_everything(settings):
    settings.DEBUG = True
    access.require(access.identify(request()), "tk.produce", "any-topic")


@pytest.mark.parametrize(
    "meta",
    [
        {"REMOTE_ADDR": "192.0.2.1"},
        {"REMOTE_ADDR": ""},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_FORWARDED": "for=127.0.0.1"},
        {"HTTP_VIA": "1.1 proxy"},
        {"SERVER_NAME": "evil.example"},
    ],
)
def test_in_debug_nobody_else_may(settings, meta):
    settings.DEBUG = True
    settings.ALLOWED_HOSTS = ["localhost"]
    with pytest.raises(Unauthenticated):
        access.require(access.identify(request(**meta)), "tk.produce")


def test_without_debug_this_machine_is_nobody_special():
    with pytest.raises(Unauthenticated):
        access.require(access.identify(request()), "tk.produce")


@pytest.mark.parametrize(
    "meta",
    [
        {"HTTP_SEC_FETCH_SITE": "cross-site"},
        {"HTTP_SEC_FETCH_SITE": "same-site"},
        {"HTTP_ORIGIN": "https://evil.example"},
        {"HTTP_ORIGIN": "https://localhost"},
        {"HTTP_ORIGIN": "null"},
    ],
)
def test_another_sites_request_is_refused(settings, meta):
    settings.DEBUG = True
    with pytest.raises(CrossSite):
        access.identify(request(**meta))


@pytest.mark.parametrize("meta", [{"HTTP_ORIGIN": "http://localhost"}, {"HTTP_SEC_FETCH_SITE": "same-origin"}])
def test_the_own_pages_request_is_taken(settings, meta):
    settings.DEBUG = True
    assert access.identify(request(**meta)).everything


def test_a_user_needs_the_permission():
    made = request()
    made.user = User.objects.create_user("ann")
    with pytest.raises(Forbidden):
        access.require(access.identify(made), "tk.produce")
    made.user.user_permissions.add(Permission.objects.get(codename="produce"))
    made.user = User.objects.get(pk=made.user.pk)
    access.require(access.identify(made), "tk.produce", "sample-topic")
    with pytest.raises(Forbidden):
        access.require(access.identify(made), "tk.produce", "another-topic")


def test_a_token_may_do_what_its_scopes_say(settings):
    settings.TK = {"TOPICS": ["*"]}
    caller = access.identify(bearer(token(scopes=["tk.produce"], topics=["orders.*"])))
    access.require(caller, "tk.produce", "orders.new")
    with pytest.raises(Forbidden):
        access.require(caller, "tk.produce", "billing")
    with pytest.raises(Forbidden):
        access.require(caller, "tkcons.view_payload")


def test_a_token_may_do_no_more_than_its_user():
    user = User.objects.create_user("ann")
    caller = access.identify(bearer(token(scopes=["tk.produce"], user=user)))
    with pytest.raises(Forbidden):
        access.require(caller, "tk.produce")


@pytest.mark.parametrize(
    "fields",
    [
        {"revoked_at": timezone.now()},
        {"expires_at": timezone.now() - timedelta(seconds=1)},
        {"user_name": "ann"},  # whose account is gone
    ],
)
def test_a_token_that_ended_is_refused(fields):
    with pytest.raises(Unauthenticated):
        access.identify(bearer(token(scopes=["tk.produce"], **fields)))


def test_an_unknown_token_is_refused():
    with pytest.raises(Unauthenticated):
        access.identify(bearer("tk_wrong"))


def test_a_revocation_takes_effect_within_token_seconds(settings):
    settings.TK = {"TOKEN_SECONDS": 0.0}
    text = token(scopes=["tk.produce"])
    access.identify(bearer(text))
    Token.objects.update(revoked_at=timezone.now())
    with pytest.raises(Unauthenticated):
        access.identify(bearer(text))


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "http://a]b"])
def test_an_origin_that_is_no_url_is_another_site(rf, origin):
    with pytest.raises(CrossSite):
        access.identify(rf.post("/tkprod", headers={"origin": origin}))
