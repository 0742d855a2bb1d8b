"""A database with the read models in it."""

import pytest

from projections.migrate import migrate


@pytest.fixture
def models(database: str) -> str:
    """The URL of a database with the newest schema."""
    migrate(database)
    return database
