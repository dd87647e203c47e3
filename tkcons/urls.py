"""Include at any prefix: ``path("", include("tkcons.urls"))``."""

from django.urls import re_path

from tkcons import views

app_name = "tkcons"
urlpatterns = [
    # One pattern for both forms: no redirect, which would lose a POST.
    re_path(r"^tkcons/?$", views.start, name="start"),
    re_path(r"^tkcons/stop/?$", views.stop, name="stop"),
    re_path(r"^tkcons/status/?$", views.status, name="status"),
    re_path(r"^tkcons/read/?$", views.read, name="read"),
]
