"""Make and revoke API tokens."""

from argparse import ArgumentParser
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from tk import access
from tk.models import Token


class Command(BaseCommand):
    help = "Makes an API token and shows it once (create), or ends it (revoke)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        create = actions.add_parser("create", help="make a token")
        create.add_argument("name")
        create.add_argument("--scope", action="append", default=[], help="a permission such as tk.produce; repeatable")
        create.add_argument("--topic", action="append", default=[], help="a pattern such as orders.*; repeatable")
        create.add_argument("--user", help="the user whose permissions bound the token's")
        revoke = actions.add_parser("revoke", help="end every token of this name")
        revoke.add_argument("name")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] == "create":
            self._create(options)
            return
        count = Token.objects.filter(name=options["name"], revoked_at=None).update(revoked_at=timezone.now())
        if not count:
            raise CommandError(f"There is no token {options['name']!r} to revoke.")
        self.stdout.write(f"{count} revoked.")

    def _create(self, options: dict[str, Any]) -> None:
        if not options["scope"]:
            raise CommandError("A token without a scope may do nothing: give --scope tk.produce, for example.")
        user = None
        if options["user"]:
            users = get_user_model()
            try:
                user = users.objects.get_by_natural_key(options["user"])
            except users.DoesNotExist:
                raise CommandError(f"There is no user {options['user']!r}.") from None
        text, digest = access.new_token()
        Token.objects.create(
            name=options["name"],
            digest=digest,
            user=user,
            user_name=options["user"] or "",
            scopes=options["scope"],
            topics=options["topic"],
        )
        self.stdout.write(text)
