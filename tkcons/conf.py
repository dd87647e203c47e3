"""The settings dict TKCONS and its defaults."""

from typing import Any

from tk.conf import AppSettings

DEFAULTS: dict[str, Any] = {
    # Each sink is a consumer group of its own, so that each fails, lags and resets alone. Name -> {"class": dotted
    # path, "topics": [...], "group": the Kafka group (default tkcons.<name>), other keys: the sink's own options}.
    "SINKS": {},
    # Whether GET /tkcons and /tkcons/stop act, as the tutorial's /tkcons does; None: while DEBUG is on.
    "GET_STARTS": None,
    # Whether a web process resumes the groups whose desired state is running; None: while DEBUG is on.
    "RUN_IN_WEB": None,
    # Whether text files are emptied at each start of the server; None: while DEBUG is on.
    "CLEAR_ON_START": None,
    # Where a group begins that has neither a stored nor a committed position: earliest or latest.
    "START": "earliest",
    # Records of one write, bytes that may wait for it, and milliseconds that one poll waits (in a flood, for company).
    "BATCH": 10_000,
    "BATCH_BYTES": 67_108_864,
    "BATCH_MS": 20,
    # The group protocol: classic (cooperative-sticky) or consumer (KIP-848).
    "PROTOCOL": "classic",
    # This host's name in static membership (group.instance.id is <HOST_ID>-<child>); None: dynamic members.
    "HOST_ID": None,
    # Seconds: heartbeats and looks at the desired state; a member unseen for five of them is gone.
    "HEARTBEAT_SECONDS": 1.0,
    # Seconds: how long a revoke waits for the batch in hand, and a stop for everything.
    "REVOKE_SECONDS": 10.0,
    "STOP_SECONDS": 20.0,
    # Seconds of the growing pause after a failure: the first, the longest.
    "RETRY_SECONDS": (0.5, 30.0),
    # Seconds for which a topic's id is believed before positions are written.
    "TOPIC_ID_SECONDS": 1.0,
    # The panel's charts: seconds (whole) between samples, and how many are kept: half an hour.
    "SAMPLE_SECONDS": 5,
    "SAMPLES": 360,
    # Days for which the id of an event from the outbox is remembered, so that its repeat is not stored.
    "EVENT_DAYS": 7,
    # What nobody gets to see on the page, in JSON Lines, exports and events: "fields" of JSON (names at any depth, or paths
    # such as "customer.email") and "headers" by name, in any case.
    "MASK": {},
    # Browsers that one process lets follow what is stored, under ASGI and under WSGI, where each holds a thread: fewer than
    # the server has. Those beyond it ask again every two seconds.
    "VIEWERS": 1_000,
    "VIEWERS_WSGI": 3,
    # Seconds that a search may take for what no index serves (key, header, text); then it says how far it came.
    "SEARCH_SECONDS": 1.0,
}

settings = AppSettings("TKCONS", DEFAULTS)
