import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("tkcons", "0006_position_owner")]

    operations = [
        migrations.CreateModel(
            name="Owner",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("first_offset", models.BigIntegerField(verbose_name="first offset")),
                ("process", models.CharField(max_length=100, verbose_name="process")),
                (
                    "position",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="owners",
                        to="tkcons.position",
                        verbose_name="partition",
                        db_index=False,
                    ),
                ),
            ],
            options={
                "verbose_name": "owner",
                "verbose_name_plural": "owners",
                "constraints": [
                    models.UniqueConstraint(fields=("position", "first_offset"), name="tkcons_owner_unique")
                ],
            },
        ),
    ]
