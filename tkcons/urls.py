"""Include at any prefix: ``path("", include("tkcons.urls"))``."""

from django.urls import re_path

from tkcons import views
from tkcons.panel import deadletters, groups, produce, topics
from tkcons.viewer.events import events
from tkcons.viewer.views import export_view, message

app_name = "tkcons"
urlpatterns = [
    # One pattern for both forms: no redirect, which would lose a POST.
    re_path(r"^tkcons/?$", views.start, name="start"),
    re_path(r"^tkcons/stop/?$", views.stop, name="stop"),
    re_path(r"^tkcons/pause/?$", views.pause, name="pause"),
    re_path(r"^tkcons/status/?$", views.status, name="status"),
    re_path(r"^tkcons/group/?$", groups.group, name="group"),
    re_path(r"^tkcons/group/move/?$", groups.move, name="move"),
    re_path(r"^tkcons/group/skip/?$", groups.skip, name="skip"),
    re_path(r"^tkcons/topics/?$", topics.topics, name="topics"),
    re_path(r"^tkcons/new-topic/?$", topics.create, name="new_topic"),
    re_path(r"^tkcons/topics/(?P<name>[^/]+)/?$", topics.topic, name="topic"),
    re_path(r"^tkcons/topics/(?P<name>[^/]+)/delete/?$", topics.delete, name="delete_topic"),
    re_path(r"^tkcons/topics/(?P<name>[^/]+)/messages/?$", topics.look, name="look"),
    re_path(
        r"^tkcons/topics/(?P<name>[^/]+)/messages/(?P<partition>[0-9]{1,9})/(?P<offset>[0-9]{1,18})/?$",
        topics.peek,
        name="peek",
    ),
    re_path(r"^tkcons/produce/?$", produce.produce, name="produce"),
    re_path(r"^tkcons/deadletters/?$", deadletters.listed, name="deadletters"),
    re_path(r"^tkcons/deadletters/settle/?$", deadletters.settle, name="settle"),
    re_path(r"^tkcons/deadletters/(?P<key>[0-9a-f]{1,32})/?$", deadletters.letter, name="deadletter"),
    re_path(r"^tkcons/read/?$", views.read, name="read"),
    re_path(r"^tkcons/read/(?P<topic>.+)/(?P<partition>[0-9]+)/(?P<offset>[0-9]+)/?$", message, name="message"),
    re_path(r"^tkcons/events/?$", events, name="events"),
    re_path(r"^tkcons/export/?$", export_view, name="export"),
]
