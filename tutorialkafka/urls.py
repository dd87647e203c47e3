from django.contrib import admin
from django.urls import include, path, re_path

from tutorialkafka import health

urlpatterns = [
    path("", include("tk.urls")),
    path("", include("tkcons.urls")),
    path("rest/", include("tkrest.urls")),
    path("admin/", admin.site.urls),
    path("i18n/", include("django.conf.urls.i18n")),  # set_language, which the pages' footer posts to
    re_path(r"^healthz/?$", health.alive, name="healthz"),
    re_path(r"^readyz/?$", health.ready, name="readyz"),
    re_path(r"^metrics/?$", health.metrics, name="metrics"),
]
