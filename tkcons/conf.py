"""The settings dict TKCONS and its defaults."""

from typing import Any

from tk.conf import AppSettings

DEFAULTS: dict[str, Any] = {
    # Each sink is a consumer group of its own. Name -> {"class": dotted path, "topics": [...], "group": name of the Kafka
    # group (default tkcons.<name>), other keys: the sink's own options}.
    "SINKS": {},
    # Whether GET /tkcons starts the consumer, as the tutorial's does; None: while DEBUG is on.
    "GET_STARTS": None,
    # Whether a web process resumes the groups whose desired state is running; None: while DEBUG is on.
    "RUN_IN_WEB": None,
    # Whether the text file is emptied at each start of the server; None: while DEBUG is on.
    "CLEAR_ON_START": None,
    # Where a group begins that has neither a stored nor a committed position: earliest or latest.
    "START": "earliest",
    # Records and milliseconds of one poll.
    "BATCH": 10_000,
    "BATCH_MS": 100,
    # The group protocol: classic (cooperative-sticky) or consumer (KIP-848).
    "PROTOCOL": "classic",
    # This host's name in static membership (group.instance.id is <HOST_ID>-<child>); None: dynamic members.
    "HOST_ID": None,
    # Seconds: heartbeats and looks at the desired state; a member unseen for three of them is gone.
    "HEARTBEAT_SECONDS": 1.0,
    # Seconds: how long a revoke waits for the batch in hand, and a stop for everything.
    "REVOKE_SECONDS": 10.0,
    "STOP_SECONDS": 20.0,
    # Seconds of the growing pause after a failure: the first, the longest.
    "RETRY_SECONDS": (0.5, 60.0),
    # Seconds for which event ids are remembered, so that a repeat is removed.
    "EVENT_ID_SECONDS": 7 * 86_400,
    # Names of JSON fields whose values the page, the admin and the exports mask.
    "MASK": [],
    # Viewers of the live tail at once in one process.
    "VIEWERS": 1_000,
}

settings = AppSettings("TKCONS", DEFAULTS)
