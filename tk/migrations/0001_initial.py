

import django.db.models.deletion
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='OutboxShard',
            fields=[
                ('shard', models.PositiveSmallIntegerField(primary_key=True, serialize=False)),
                ('owner', models.CharField(blank=True, max_length=100)),
                ('generation', models.BigIntegerField(default=0)),
                ('leased_until', models.DateTimeField(null=True)),
            ],
            options={
                'verbose_name': 'outbox shard',
                'verbose_name_plural': 'outbox shards',
            },
        ),
        migrations.CreateModel(
            name='IdempotencyKey',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('caller', models.CharField(max_length=150, verbose_name='caller')),
                ('method', models.CharField(max_length=8, verbose_name='method')),
                ('path', models.CharField(max_length=255, verbose_name='path')),
                ('key', models.CharField(max_length=255, verbose_name='key')),
                ('body_digest', models.CharField(max_length=64)),
                ('event_id', models.UUIDField(default=uuid.uuid4, editable=False, verbose_name='event id')),
                ('state', models.CharField(choices=[('in_flight', 'in flight'), ('unknown', 'outcome unknown'), ('finished', 'finished')], default='in_flight', max_length=10, verbose_name='state')),
                ('status', models.PositiveSmallIntegerField(null=True, verbose_name='status')),
                ('content_type', models.CharField(blank=True, max_length=100)),
                ('body', models.BinaryField(default=bytes)),
                ('accepted_at', models.DateTimeField(auto_now_add=True, verbose_name='accepted')),
                ('acknowledged_at', models.DateTimeField(null=True, verbose_name='acknowledged')),
                ('expires_at', models.DateTimeField(db_index=True, verbose_name='expires')),
            ],
            options={
                'verbose_name': 'idempotency key',
                'verbose_name_plural': 'idempotency keys',
                'constraints': [models.UniqueConstraint(fields=('caller', 'method', 'path', 'key'), name='tk_idempotencykey_unique')],
            },
        ),
        migrations.CreateModel(
            name='OutboxEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('event_id', models.UUIDField(default=uuid.uuid4, editable=False, unique=True, verbose_name='event id')),
                ('shard', models.PositiveSmallIntegerField(verbose_name='shard')),
                ('state', models.PositiveSmallIntegerField(choices=[(0, 'pending'), (1, 'sent'), (2, 'failed'), (3, 'discarded')], default=0, verbose_name='state')),
                ('topic', models.CharField(max_length=249, verbose_name='topic')),
                ('key', models.BinaryField(null=True, verbose_name='key')),
                ('value', models.BinaryField(null=True, verbose_name='value')),
                ('headers', models.TextField(null=True, verbose_name='headers')),
                ('partition', models.PositiveIntegerField(null=True, verbose_name='partition')),
                ('timestamp', models.BigIntegerField(null=True, verbose_name='timestamp')),
                ('tries', models.PositiveIntegerField(default=0, verbose_name='tries')),
                ('error', models.TextField(blank=True, verbose_name='error')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='accepted')),
                ('sent_at', models.DateTimeField(null=True, verbose_name='acknowledged')),
                ('sent_partition', models.PositiveIntegerField(null=True, verbose_name='partition sent to')),
                ('sent_offset', models.BigIntegerField(null=True, verbose_name='offset')),
            ],
            options={
                'verbose_name': 'outbox event',
                'verbose_name_plural': 'outbox events',
                'indexes': [models.Index(condition=models.Q(('state__in', (0, 2))), fields=['shard', 'id'], name='tk_outbox_waiting'), models.Index(condition=models.Q(('state', 1)), fields=['sent_at'], name='tk_outbox_sent')],
            },
        ),
        migrations.CreateModel(
            name='Token',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=100, verbose_name='name')),
                ('digest', models.CharField(editable=False, max_length=64, unique=True)),
                ('user_name', models.CharField(blank=True, editable=False, max_length=150, verbose_name="user's name")),
                ('scopes', models.JSONField(default=list, help_text='Permissions such as tk.produce.', verbose_name='scopes')),
                ('topics', models.JSONField(blank=True, default=list, help_text='Patterns; empty: as the settings say.', verbose_name='topics')),
                ('created_at', models.DateTimeField(auto_now_add=True, verbose_name='created')),
                ('expires_at', models.DateTimeField(blank=True, null=True, verbose_name='expires')),
                ('revoked_at', models.DateTimeField(blank=True, null=True, verbose_name='revoked')),
                ('user', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='user')),
            ],
            options={
                'verbose_name': 'token',
                'verbose_name_plural': 'tokens',
                'permissions': [('produce', 'Can produce messages'), ('manage_topics', 'Can create and delete topics')],
            },
        ),
    ]
