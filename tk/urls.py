from django.urls import URLPattern

app_name = "tk"
urlpatterns: list[URLPattern] = []
