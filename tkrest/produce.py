"""Records of one request to Kafka: all of them are checked before the first is sent, each is answered for itself."""

import logging
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from tk import producer, topics
from tk.access import Caller, require
from tk.conf import settings as tk_settings
from tk.errors import BrokerRefused, InvalidRecord, NotSent, OutcomeUnknown, TkError, TooLarge
from tk.record import Receipt, Record, check, check_topic
from tkrest.cluster import PRODUCE
from tkrest.conf import settings
from tkrest.errors import InvalidPayload, PartitionNotFound, Unprocessable
from tkrest.formats import BinaryRecord, JsonRecord, to_record
from tkrest.media import BINARY, JSON

logger = logging.getLogger(__name__)

Outcome = Receipt | TkError

# Of a record, beside the code of the whole answer. 50003: certainly not sent, send it again; 50401: unknown, sending it
# again may double it; 50002: not stored, sending it again is refused again.
NOT_SENT, UNKNOWN, REFUSED = 50003, 50401, 50002


class BinaryRecords(msgspec.Struct):
    records: list[BinaryRecord]


class JsonRecords(msgspec.Struct):
    records: list[JsonRecord]


BODIES: dict[str, Any] = {BINARY: BinaryRecords, JSON: JsonRecords}


def produce(
    caller: Caller, topic: str, given: Sequence[BinaryRecord | JsonRecord], partition: int | None = None
) -> dict[str, Any]:
    """Send the records and wait for the acknowledgements: where each is, or what became of it, in order.

    Raises before anything is sent: UnknownTopic, PartitionNotFound, InvalidPayload; NotSent where no record was sent.
    """
    check_topic(topic)
    require(caller, PRODUCE, topic)
    if not given:
        raise Unprocessable("There are no records.")
    if len(given) > settings.MAX_RECORDS:
        raise Unprocessable(f"There are {len(given)} records; at most {settings.MAX_RECORDS} are taken at once.")
    count = topics.get(topic).partitions
    if partition is not None and not 0 <= partition < count:
        raise PartitionNotFound
    records = [_checked(index, each, topic, partition, count) for index, each in enumerate(given)]
    outcomes = _send(records)
    if all(isinstance(outcome, NotSent) for outcome in outcomes):
        raise outcomes[0]  # type: ignore[misc]
    logger.debug(
        "produced", extra={"action": "produce", "topic": topic, "records": len(records), "caller": caller.name}
    )
    return {"offsets": [_entry(outcome) for outcome in outcomes], "key_schema_id": None, "value_schema_id": None}


def _checked(index: int, given: BinaryRecord | JsonRecord, topic: str, partition: int | None, count: int) -> Record:
    try:
        record = to_record(given, topic, partition)
        check(record)
    except TooLarge as error:
        raise TooLarge(f"records[{index}]: {error}") from error
    except (InvalidRecord, msgspec.MsgspecError) as error:
        raise InvalidPayload(f"records[{index}]: {error}") from error
    if record.partition is not None and record.partition >= count:
        raise PartitionNotFound(f"records[{index}]: partition {record.partition} not found.")
    return record


def _send(records: list[Record]) -> list[Outcome]:
    """Hand all over, then wait for all, until REQUEST_TIMEOUT."""
    outcomes: list[Outcome] = [OutcomeUnknown()] * len(records)
    come: list[int] = []
    everything = threading.Event()

    def take(index: int, outcome: Outcome) -> None:
        outcomes[index] = outcome
        come.append(index)
        if len(come) >= len(records):
            everything.set()

    current = producer.current()
    for index, record in enumerate(records):
        try:
            current.send(record, partial(take, index))
        except NotSent as error:  # the queue is full: what comes after must not overtake this one
            for later in range(index, len(records)):
                take(later, error)
            break
        except TkError as error:
            take(index, error)
    everything.wait(tk_settings.REQUEST_TIMEOUT)
    return list(outcomes)  # as it is now: more may come


def _entry(outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, Receipt):
        return {"partition": outcome.partition, "offset": outcome.offset, "error_code": None, "error": None}
    number = UNKNOWN
    if isinstance(outcome, NotSent):
        number = NOT_SENT
    elif isinstance(outcome, BrokerRefused | InvalidRecord):
        number = REFUSED
    return {"partition": None, "offset": None, "error_code": number, "error": str(outcome)}
