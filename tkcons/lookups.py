"""What Django's lookups cannot say of binary columns."""

from typing import Any

from django.db.models import BinaryField, BooleanField, F, Func, Value
from django.db.models.functions import Coalesce


class Contains(Func):
    """Whether bytes are in a binary column; Django's own lookups are for text."""

    template = "INSTR(%(expressions)s) > 0"
    output_field = BooleanField()

    def __init__(self, column: str, data: bytes) -> None:
        super().__init__(Coalesce(F(column), Value(b"", BinaryField())), Value(data, BinaryField()))

    def as_postgresql(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        template, arg_joiner = "POSITION((%(expressions)s)) > 0", ") IN ("
        turned = self.copy()
        turned.set_source_expressions(self.get_source_expressions()[::-1])
        return turned.as_sql(compiler, connection, template=template, arg_joiner=arg_joiner, **extra)
