"""Include at any prefix, or at the root as the REST Proxy itself has it: ``path("rest/", include("tkrest.urls"))``."""

from django.urls import re_path

from tkrest import views

app_name = "tkrest"
TOPIC = r"^topics/(?P<topic>[^/]+)"
INSTANCE = r"^consumers/(?P<group>[^/]+)/instances/(?P<instance>[^/]+)"
urlpatterns = [
    # One pattern for both forms: no redirect, which would lose a POST's body.
    re_path(r"^topics/?$", views.topics, name="topics"),
    re_path(TOPIC + r"/?$", views.topic, name="topic"),
    re_path(TOPIC + r"/partitions/?$", views.partitions, name="partitions"),
    re_path(TOPIC + r"/partitions/(?P<partition>[0-9]{1,10})/?$", views.partition, name="partition"),
    re_path(
        TOPIC + r"/partitions/(?P<partition>[0-9]{1,10})/offsets/?$", views.partition_offsets, name="partition-offsets"
    ),
    re_path(r"^brokers/?$", views.brokers, name="brokers"),
    re_path(r"^consumers/(?P<group>[^/]+)/?$", views.group, name="group"),
    re_path(INSTANCE + r"/?$", views.instance, name="instance"),
    re_path(INSTANCE + r"/subscription/?$", views.subscription, name="subscription"),
    re_path(INSTANCE + r"/assignments/?$", views.assignments, name="assignments"),
    re_path(INSTANCE + r"/offsets/?$", views.offsets, name="offsets"),
    re_path(INSTANCE + r"/positions/?$", views.positions, name="positions"),
    re_path(INSTANCE + r"/positions/(?P<end>beginning|end)/?$", views.ends, name="ends"),
    re_path(INSTANCE + r"/records/?$", views.records, name="records"),
    # What is left below the three names; the rest of the address space is the project's.
    re_path(r"^(?:topics|brokers|consumers)(?:/(?P<path>.*))?$", views.missing),
]
