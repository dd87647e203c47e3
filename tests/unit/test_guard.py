"""Whom the pages let in, and how they say no."""

from io import BytesIO

import pytest
from django.urls import reverse

from tkcons.models import Group

pytestmark = pytest.mark.django_db

HTML = {"Accept": "text/html,*/*;q=0.8"}
FROM_ELSEWHERE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def test_a_browser_is_sent_to_the_login_and_a_client_is_told(client):
    page = client.get("/tkcons/read?before=7", headers=HTML)
    assert page.status_code == 302
    assert page["Location"] == "/admin/login/?next=/tkcons/read%3Fbefore%3D7"
    assert client.get("/tkcons/read").status_code == 401
    assert client.get("/tkcons/read", headers={**HTML, "Authorization": "Bearer tk_wrong"}).status_code == 401
    assert client.post("/tkcons/stop", headers=HTML).status_code == 401


def test_a_page_that_refreshes_itself_is_loaded_anew_when_the_session_is_over(client):
    answer = client.get("/tkcons/status", headers={**HTML, "HX-Request": "true"})
    assert (answer.status_code, answer["HX-Refresh"]) == (401, "true")


def test_who_lacks_the_permission_gets_a_page_that_says_so(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("ann"))
    page = client.get("/tkcons/read", headers=HTML)
    assert (page.status_code, page["X-Error-Code"]) == (403, "forbidden")
    assert "ann lacks the permission tkcons.view_payload." in page.content.decode()


def test_a_link_on_another_site_may_be_followed_but_does_nothing(client, settings, admin_user):
    client.force_login(admin_user)
    settings.TKCONS = {"GET_STARTS": True}
    assert client.get("/tkcons/status", headers={**HTML, **FROM_ELSEWHERE}).status_code == 200
    assert client.get("/tkcons/stop", headers={**HTML, **FROM_ELSEWHERE}).status_code == 403
    for other in ({"Sec-Fetch-Mode": "no-cors"}, {"Sec-Fetch-Dest": "iframe"}, {"Origin": "https://evil.example"}):
        assert client.get("/tkcons/status", headers={**HTML, **FROM_ELSEWHERE, **other}).status_code == 403


@pytest.mark.parametrize("path", ["/tkcons", "/tkcons/stop"])
def test_without_debug_a_get_starts_and_stops_nothing(client, admin_user, path):
    client.force_login(admin_user)
    answer = client.get(path)
    assert (answer.status_code, answer["Allow"], answer["X-Error-Code"]) == (405, "POST", "method_not_allowed")
    assert not Group.objects.exists()


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("length", ["300", "x"])
def test_half_a_form_is_none(client, settings, kind, length):
    """As WSGI servers give what a browser had sent before it went away; runserver passes on any length."""
    settings.DEBUG = True
    part = b'--x\r\nContent-Disposition: form-data; name="id"\r\n\r\n1\r\n'
    half = {"wsgi.input": BytesIO(part), "CONTENT_LENGTH": length, "CONTENT_TYPE": kind}
    answer = client.generic("POST", reverse("tkcons:stop"), **half)
    assert (answer.status_code, answer["X-Error-Code"]) == (400, "bad_request")
    assert not Group.objects.exists()
