"""Include at any prefix: ``path("", include("tk.urls"))``."""

from django.urls import re_path

from tk import views

app_name = "tk"
urlpatterns = [
    # One pattern for both forms: no redirect, which would lose a POST's body.
    re_path(r"^tkprod/?$", views.produce, name="produce"),
]
