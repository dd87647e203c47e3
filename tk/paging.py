"""A page of a table of any size."""

from typing import TYPE_CHECKING, Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property

if TYPE_CHECKING:
    Base = Paginator[Any]
else:
    Base = Paginator  # generic for the type checker alone


class NewestPaginator(Base):
    """The newest rows alone, without a count: older ones are found by a search."""

    LIMIT = 1_000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return len(rows[: self.LIMIT].values_list("pk"))
