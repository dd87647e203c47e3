

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Group',
            fields=[
                ('name', models.CharField(max_length=249, primary_key=True, serialize=False, verbose_name='name')),
                ('desired', models.CharField(choices=[('running', 'running'), ('paused', 'paused'), ('stopped', 'stopped')], default='stopped', max_length=7, verbose_name='desired state')),
                ('changed_at', models.DateTimeField(auto_now=True, verbose_name='changed')),
                ('changed_by', models.CharField(blank=True, max_length=150, verbose_name='changed by')),
                ('lease_owner', models.CharField(blank=True, max_length=100)),
                ('leased_until', models.DateTimeField(null=True)),
            ],
            options={
                'verbose_name': 'group',
                'verbose_name_plural': 'groups',
                'permissions': [('control_consumer', 'Can start, stop and reset groups')],
            },
        ),
        migrations.CreateModel(
            name='Member',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=150, unique=True, verbose_name='name')),
                ('host', models.CharField(max_length=100, verbose_name='host')),
                ('pid', models.PositiveIntegerField(verbose_name='process id')),
                ('in_web', models.BooleanField(default=False, verbose_name='in a web process')),
                ('state', models.CharField(max_length=20, verbose_name='state')),
                ('partitions', models.JSONField(default=list, verbose_name='partitions')),
                ('stored', models.BigIntegerField(default=0, verbose_name='stored')),
                ('error', models.TextField(blank=True, verbose_name='last error')),
                ('started_at', models.DateTimeField(verbose_name='started')),
                ('seen_at', models.DateTimeField(verbose_name='last heartbeat')),
                ('group', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='members', to='tkcons.group', verbose_name='group')),
            ],
            options={
                'verbose_name': 'member',
                'verbose_name_plural': 'members',
            },
        ),
        migrations.CreateModel(
            name='Position',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('group', models.CharField(max_length=249, verbose_name='group')),
                ('topic', models.CharField(max_length=249, verbose_name='topic')),
                ('topic_id', models.CharField(max_length=22, verbose_name='topic id')),
                ('partition', models.PositiveIntegerField(verbose_name='partition')),
                ('generation', models.BigIntegerField(default=0, verbose_name='generation')),
                ('start_offset', models.BigIntegerField(verbose_name='start offset')),
                ('next_offset', models.BigIntegerField(verbose_name='next offset')),
                ('updated_at', models.DateTimeField(auto_now=True, verbose_name='updated')),
            ],
            options={
                'verbose_name': 'position',
                'verbose_name_plural': 'positions',
                'constraints': [models.UniqueConstraint(fields=('group', 'topic_id', 'partition'), name='tkcons_position_unique')],
            },
        ),
        migrations.CreateModel(
            name='SeenEvent',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('group', models.CharField(max_length=249)),
                ('topic_id', models.CharField(max_length=22)),
                ('event_id', models.UUIDField()),
                ('seen_at', models.DateTimeField(db_index=True)),
            ],
            options={
                'verbose_name': 'event id',
                'verbose_name_plural': 'event ids',
                'constraints': [models.UniqueConstraint(fields=('group', 'topic_id', 'event_id'), name='tkcons_seenevent_unique')],
            },
        ),
        migrations.CreateModel(
            name='DeadLetter',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('event_id', models.UUIDField(unique=True, verbose_name='event id')),
                ('group', models.CharField(max_length=249, verbose_name='group')),
                ('topic', models.CharField(max_length=249, verbose_name='topic')),
                ('topic_id', models.CharField(max_length=22, verbose_name='topic id')),
                ('partition', models.PositiveIntegerField(verbose_name='partition')),
                ('offset', models.BigIntegerField(verbose_name='offset')),
                ('timestamp', models.BigIntegerField(null=True, verbose_name='timestamp')),
                ('key', models.BinaryField(null=True, verbose_name='key')),
                ('value', models.BinaryField(null=True, verbose_name='value')),
                ('headers', models.TextField(null=True, verbose_name='headers')),
                ('cause', models.CharField(max_length=500, verbose_name='cause')),
                ('traceback', models.TextField(blank=True, verbose_name='traceback')),
                ('tries', models.PositiveIntegerField(verbose_name='tries')),
                ('state', models.CharField(choices=[('dead', 'dead'), ('resent', 'resent'), ('discarded', 'discarded')], default='dead', max_length=9, verbose_name='state')),
                ('died_at', models.DateTimeField(verbose_name='died')),
                ('handled_at', models.DateTimeField(null=True, verbose_name='resent or discarded')),
                ('handled_by_name', models.CharField(blank=True, max_length=150, verbose_name='by (name)')),
                ('resent_as', models.UUIDField(null=True, verbose_name='resent as')),
                ('handled_by', models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='by')),
            ],
            options={
                'verbose_name': 'dead letter',
                'verbose_name_plural': 'dead letters',
                'indexes': [models.Index(fields=['state', 'id'], name='tkcons_deadletter_state')],
            },
        ),
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('offset', models.BigIntegerField(verbose_name='offset')),
                ('timestamp', models.BigIntegerField(null=True, verbose_name='timestamp')),
                ('timestamp_type', models.PositiveSmallIntegerField(default=0, verbose_name='timestamp type')),
                ('key', models.BinaryField(null=True, verbose_name='key')),
                ('value', models.BinaryField(null=True, verbose_name='value')),
                ('headers', models.TextField(null=True, verbose_name='headers')),
                ('stored_at', models.DateTimeField(verbose_name='stored')),
                ('position', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='messages', to='tkcons.position', verbose_name='partition')),
            ],
            options={
                'verbose_name': 'message',
                'verbose_name_plural': 'messages',
                'permissions': [('view_payload', 'Can read messages'), ('export', 'Can export messages')],
                'constraints': [models.UniqueConstraint(fields=('position', 'offset'), name='tkcons_message_unique')],
            },
        ),
        migrations.CreateModel(
            name='Gap',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('cause', models.CharField(choices=[('repeated', 'removed as a repeat'), ('pruned', 'pruned'), ('skipped', 'skipped by a reset or seek'), ('discarded', 'discarded')], max_length=10, verbose_name='cause')),
                ('first_offset', models.BigIntegerField(verbose_name='first offset')),
                ('last_offset', models.BigIntegerField(verbose_name='last offset')),
                ('made_by', models.CharField(blank=True, max_length=150, verbose_name='made by')),
                ('made_at', models.DateTimeField(auto_now_add=True, verbose_name='made')),
                ('position', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='gaps', to='tkcons.position', verbose_name='partition')),
            ],
            options={
                'verbose_name': 'gap',
                'verbose_name_plural': 'gaps',
                'indexes': [models.Index(fields=['position', 'first_offset'], name='tkcons_gap_offsets')],
            },
        ),
        migrations.CreateModel(
            name='Try',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('offset', models.BigIntegerField()),
                ('count', models.PositiveIntegerField(default=0)),
                ('error', models.TextField(blank=True)),
                ('next_at', models.DateTimeField(null=True)),
                ('position', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='tries', to='tkcons.position')),
            ],
            options={
                'verbose_name': 'try',
                'verbose_name_plural': 'tries',
                'constraints': [models.UniqueConstraint(fields=('position', 'offset'), name='tkcons_try_unique')],
            },
        ),
    ]
