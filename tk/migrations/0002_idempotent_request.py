
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('tk', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='IdempotentRequest',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('caller', models.CharField(max_length=200, verbose_name='caller')),
                ('method', models.CharField(max_length=8, verbose_name='method')),
                ('path', models.CharField(max_length=500, verbose_name='path')),
                ('key', models.CharField(max_length=255, verbose_name='key')),
                ('fingerprint', models.CharField(max_length=64, verbose_name='fingerprint')),
                ('event_id', models.UUIDField(verbose_name='event id')),
                ('attempt', models.PositiveIntegerField(default=1, verbose_name='attempt')),
                ('locked_until', models.DateTimeField(null=True, verbose_name='in flight until')),
                ('content_type', models.CharField(blank=True, max_length=100, verbose_name='content type')),
                ('answer', models.BinaryField(null=True, verbose_name='answer')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), verbose_name='accepted')),
            ],
            options={
                'verbose_name': 'idempotent request',
                'verbose_name_plural': 'idempotent requests',
                'indexes': [models.Index(models.F('created_at'), name='tk_idempotent_created')],
                'constraints': [models.UniqueConstraint(fields=('caller', 'method', 'path', 'key'), name='tk_idempotent_unique')],
            },
        ),
    ]
