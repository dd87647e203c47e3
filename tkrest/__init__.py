"""Kafka REST Proxy v2 over HTTP, on the clients of tk and tkcons."""
