"""Views outside ATOMIC_REQUESTS, for whatever database."""

from collections.abc import Callable
from typing import TypeVar

View = TypeVar("View", bound=Callable[..., object])


class _Every(set[str]):
    def __contains__(self, alias: object) -> bool:
        return True


def non_atomic(view: View) -> View:
    """`transaction.non_atomic_requests` for every alias; Django's own is for one, and a project may add others."""
    view._non_atomic_requests = _Every()  # type: ignore[attr-defined]
    return view
