"""One message by its address: a topic's name, perhaps its id, partition, offset."""

from typing import NamedTuple

from tk.access import Caller, require
from tkcons.models import Message
from tkcons.viewer import store
from tkcons.viewer.query import Query, visible
from tkcons.viewer.rows import Place
from tkcons.viewer.search import VIEW


class Address(NamedTuple):
    """A topic that was made again under its name is another: without an id the newest is meant."""

    topic: str
    partition: int
    offset: int
    topic_id: str = ""
    group: str = ""


class Stored(NamedTuple):
    """Where the address leads. places: the groups that store the partition. messages: by place; not every group has it."""

    address: Address
    places: list[Place]
    messages: dict[int, Message]

    @property
    def message(self) -> Message | None:
        """The one that is shown: every group stores the same."""
        return next(iter(self.messages.values()), None)

    @property
    def is_expected(self) -> bool:
        """Whether a group has not come so far yet, or none has begun."""
        behind = any(place.next_offset <= self.address.offset for place in self.places)
        return not self.messages and (behind or not self.places)


def look_up(caller: Caller, address: Address) -> Stored:
    """Raises Unauthenticated or Forbidden; a message that is not there is no error here."""
    require(caller, VIEW)
    query = Query(topic=address.topic, topic_id=address.topic_id, group=address.group, partition=address.partition)
    found = visible(store.places(), query, caller)
    newest = max(found, default=0)
    places = [place for place in found.values() if place.topic_id == found[newest].topic_id]
    messages = {}
    for place in places:
        message = store.messages().filter(position=place.pk, offset=address.offset).select_related("position").first()
        if message is not None:
            messages[place.pk] = message
    if places:
        address = address._replace(topic_id=places[0].topic_id)
    return Stored(address, places, messages)


def neighbours(message: Message) -> tuple[int | None, int | None]:
    """The offsets of the stored messages before and after it in its partition."""
    rows = store.messages().filter(position=message.position_id)
    older = rows.filter(offset__lt=message.offset).order_by("-offset").values_list("offset", flat=True).first()
    newer = rows.filter(offset__gt=message.offset).order_by("offset").values_list("offset", flat=True).first()
    return older, newer
