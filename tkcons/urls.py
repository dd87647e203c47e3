from django.urls import URLPattern

app_name = "tkcons"
urlpatterns: list[URLPattern] = []
