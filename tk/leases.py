"""Leases on the outbox's shards: which relay sends which keys. Times are the database's own."""

import math
import os
import secrets
import socket
import time
from datetime import timedelta

from django.db import connections, transaction
from django.db.models import F, Q
from django.db.models.functions import Now

from tk.conf import settings
from tk.database import UNSYNCED
from tk.models import OutboxRelay, OutboxShard
from tk.outbox import SHARDS


class Leases:
    """One relay's shards. `held` maps a shard to the generation of its lease; not thread-safe."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.name = f"{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(4)}"
        self.held: dict[int, int] = {}
        self._valid_until = 0.0
        self._renew_at = 0.0

    def valid(self) -> bool:
        """Whether the leases hold for sure, without asking the database."""
        return time.monotonic() < self._valid_until

    def keep(self) -> bool:
        """Renew, take and give back shards so that the living relays have equal shares; a third of a lease apart.

        True: other shards are held than before.
        """
        began = time.monotonic()
        if began < self._renew_at:
            return False
        seconds = settings.OUTBOX_LEASE_SECONDS
        until = Now() + timedelta(seconds=seconds)
        shards = OutboxShard.objects.using(self.using)
        with transaction.atomic(using=self.using):
            self._spare_the_disk()
            relays = OutboxRelay.objects.using(self.using)
            relays.filter(seen_until__lt=Now() - timedelta(seconds=seconds)).delete()
            relays.update_or_create(name=self.name, defaults={"seen_until": until})
            share = math.ceil(SHARDS / relays.filter(seen_until__gte=Now()).count())
            rows = shards.filter(owner=self.name).order_by("shard").values_list("shard", "generation")
            kept = dict(rows.select_for_update()[:share])
            shards.filter(owner=self.name).exclude(shard__in=kept).update(owner="", leased_until=None)
            if len(kept) < share:
                kept |= self._take(share - len(kept))
            shards.filter(shard__in=kept).update(leased_until=until)
        changed, self.held = kept != self.held, kept
        self._valid_until = began + seconds
        self._renew_at = began + seconds / 3
        return changed

    def _take(self, most: int) -> dict[int, int]:
        """Shards that nobody holds; those another relay is taking at this moment are passed over."""
        shards = OutboxShard.objects.using(self.using)
        if not shards.exists():
            shards.bulk_create([OutboxShard(shard=number) for number in range(SHARDS)], ignore_conflicts=True)
        free = shards.filter(Q(leased_until=None) | Q(leased_until__lt=Now())).order_by("shard")
        taken = {row.shard: row.generation + 1 for row in free.select_for_update(skip_locked=True)[:most]}
        shards.filter(shard__in=taken).update(owner=self.name, generation=F("generation") + 1)
        return taken

    def _spare_the_disk(self) -> None:
        """Should PostgreSQL die itself and lose this commit, another relay may send what this one sends: a repeat."""
        if (connection := connections[self.using]).vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT {UNSYNCED}")

    def release(self) -> None:
        """Give everything back, so that another relay need not wait for the leases to end."""
        OutboxShard.objects.using(self.using).filter(owner=self.name).update(owner="", leased_until=None)
        OutboxRelay.objects.using(self.using).filter(name=self.name).delete()
        self.held = {}
        self._valid_until = self._renew_at = 0.0
