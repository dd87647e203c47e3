from django.urls import include, path

from tests.faults.inside import views

urlpatterns = [path("publish", views.publish), path("", include("tutorialkafka.urls"))]
