"""The settings dict TKREST and its defaults."""

from typing import Any

from tk.conf import AppSettings

DEFAULTS: dict[str, Any] = {
    # Where clients reach this very process, for base_uri: "https://host-1.example.org/rest"; None: as the request came.
    "BASE_URI": None,
    # Consumer groups that requests may join, as patterns of fnmatch. The groups of tkcons are never among them.
    "GROUPS": ["*"],
    # Bytes of a request's body, and records in it.
    "MAX_BODY_BYTES": 7 * 1_048_576,
    "MAX_RECORDS": 10_000,
    # Bytes of keys, values and headers in one answer; also the most that max_bytes may ask for.
    "MAX_RESPONSE_BYTES": 16_777_216,
    # Consumer instances of a process, and of one caller in it. Each may hold about three times FETCH_KIB.
    "MAX_INSTANCES": 50,
    "MAX_INSTANCES_OF_CALLER": 20,
    # KiB that an instance fetches ahead; at least 1,024.
    "FETCH_KIB": 4_096,
    # Seconds after which an instance that nobody uses is closed.
    "INSTANCE_SECONDS": 300.0,
    # Where an instance begins without a committed offset, unless it says: earliest, latest or none, as Kafka's clients.
    "AUTO_OFFSET_RESET": "latest",
    # Milliseconds that a read waits for records unless it says, and the most that it may say.
    "READ_MS": 1_000,
    "MAX_READ_MS": 30_000,
}

settings = AppSettings("TKREST", DEFAULTS)
