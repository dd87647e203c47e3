from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('tk', '0002_idempotent_request'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='outboxevent',
            options={'permissions': [('settle_outboxevent', 'Can resend and discard failed outbox events')], 'verbose_name': 'outbox event', 'verbose_name_plural': 'outbox events'},
        ),
    ]
