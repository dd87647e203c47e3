"""Apache Kafka and PostgreSQL on this machine, for development, tests and fault tests."""
