"""Real Kafka and Postgres in a folder: for the demo, the tests, and `mailfleet` on a single machine."""

from ops.embedded.kafka import EmbeddedKafka
from ops.embedded.postgres import EmbeddedPostgres
from ops.embedded.process import CannotStart

__all__ = ["CannotStart", "EmbeddedKafka", "EmbeddedPostgres"]
