from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.urls import reverse

from tk import access
from tk.models import Token

pytestmark = pytest.mark.django_db


def create(*arguments: str) -> str:
    out = StringIO()
    call_command("token", "create", *arguments, stdout=out)
    return out.getvalue().strip()


def test_a_token_is_shown_once_and_its_digest_kept():
    User.objects.create_user("ann")
    text = create("app", "--scope", "tk.produce", "--topic", "orders.*", "--user", "ann")
    token = Token.objects.get()
    assert text not in str(vars(token))
    assert token.digest == access.digest(text)
    assert (token.scopes, token.topics, token.user_name) == (["tk.produce"], ["orders.*"], "ann")


@pytest.mark.parametrize("arguments", [("app",), ("app", "--scope", "tk.produce", "--user", "nobody")])
def test_a_token_that_makes_no_sense_is_refused(arguments):
    with pytest.raises(CommandError):
        create(*arguments)
    assert not Token.objects.exists()


def test_revoking():
    create("app", "--scope", "tk.produce")
    call_command("token", "revoke", "app", stdout=StringIO())
    assert Token.objects.get().revoked_at is not None
    with pytest.raises(CommandError):
        call_command("token", "revoke", "app")


def test_the_admin_shows_a_new_token_once(admin_client):
    data = {"name": "app", "scopes": '["tk.produce"]', "topics": "[]"}
    page = admin_client.post(reverse("admin:tk_token_add"), data, follow=True)
    (message,) = [str(m) for m in page.context["messages"] if "shown this once" in str(m)]
    text = message.rsplit(" ", 1)[1]
    assert Token.objects.get().digest == access.digest(text)
    assert text not in admin_client.get(reverse("admin:tk_token_changelist")).content.decode()


def test_the_admin_revokes_and_logs(admin_client):
    create("app", "--scope", "tk.produce")
    token = Token.objects.get()
    data = {"action": "revoke", "_selected_action": [token.pk]}
    page = admin_client.post(reverse("admin:tk_token_changelist"), data).content.decode()
    assert "Revoke these tokens?" in page
    assert not Token.objects.exclude(revoked_at=None).exists()
    admin_client.post(reverse("admin:tk_token_changelist"), data | {"sure": "1"})
    token.refresh_from_db()
    assert token.revoked_at is not None
    from django.contrib.admin.models import LogEntry

    assert LogEntry.objects.filter(object_id=str(token.pk), change_message__contains="revoked").exists()
