"""tk below a prefix of the project's own."""

from django.urls import include, path

urlpatterns = [path("in/a/project/", include("tk.urls"))]
