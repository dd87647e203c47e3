"""Which process stored or handled an offset: the present claim is in the position, earlier ones are rows of their own."""

from tkcons.models import Owner, Position
from tkcons.processes import this_process

KEPT = 1_000  # earlier owners of a position


def take(position: Position, using: str) -> None:
    """This process writes from the position's next offset on. In the transaction of its claim, which holds the row."""
    begin, since = position.next_offset, position.claimed_from
    earlier = Owner.objects.using(using).filter(position=position)
    earlier.filter(first_offset__gte=begin).delete()  # the position was moved back: others write there now
    if since is not None and since < begin:
        if position.claimed_by == this_process():
            return
        earlier.create(position=position, first_offset=since, process=position.claimed_by)
        kept = earlier.order_by("-first_offset").values_list("first_offset", flat=True)[KEPT - 1 : KEPT]
        earlier.filter(first_offset__lt=min(kept, default=0)).delete()
    Position.objects.using(using).filter(pk=position.pk).update(claimed_by=this_process(), claimed_from=begin)


def writer(position: Position, offset: int) -> str:
    """The process, host:pid; empty where nobody recorded it."""
    if position.claimed_from is not None and offset >= position.claimed_from:
        return position.claimed_by
    earlier = Owner.objects.using(position._state.db).filter(position=position, first_offset__lte=offset)
    owner = earlier.order_by("-first_offset").first()
    return "" if owner is None else owner.process
