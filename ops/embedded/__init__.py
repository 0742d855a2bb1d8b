"""A real Kafka and a real Postgres in a folder, for the demo, the tests and the bench. Never for production."""

from ops.embedded.jars import ensure_jars
from ops.embedded.kafka import EmbeddedKafka
from ops.embedded.place import CannotStart
from ops.embedded.postgres import EmbeddedPostgres

__all__ = ["CannotStart", "EmbeddedKafka", "EmbeddedPostgres", "ensure_jars"]
