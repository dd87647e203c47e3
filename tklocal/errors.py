"""What can go wrong on this machine: the message says what happened and what to do."""


class TklocalError(Exception):
    """A server on this machine could not be had."""


class FetchFailed(TklocalError):
    """Apache Kafka could not be fetched."""


class StartFailed(TklocalError):
    """A server did not start."""


class PortTaken(StartFailed):
    """Another program listens on the port."""
