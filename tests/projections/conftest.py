"""A database with the read models in it."""

import pytest

from ops.embedded import EmbeddedKafka
from projections.migrate import migrate
from tests.projections.journal import Journal


@pytest.fixture
def models(database: str) -> str:
    """The URL of a database with the newest schema."""
    migrate(database)
    return database


@pytest.fixture
def journal(kafka: EmbeddedKafka, models: str, topic_prefix: str) -> Journal:
    """An empty journal and an empty database."""
    return Journal(kafka.bootstrap, models, topic_prefix + "journal")
