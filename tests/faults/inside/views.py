"""What an application does with the outbox: a message that is sent if and only if its transaction commits."""

import json

from django.db import DatabaseError, transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from tk import outbox


@csrf_exempt
@transaction.non_atomic_requests
def publish(request: HttpRequest) -> HttpResponse:
    asked = json.loads(request.body)
    try:
        with transaction.atomic():
            outbox.publish(asked["topic"], asked["message"], key=asked["key"])
    except DatabaseError:
        return HttpResponse(status=503)  # whether the commit got through is not known
    return HttpResponse("Published.")
