"""Facts of one send's life, from the published examples, and how a test puts them into Postgres."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import orjson
import psycopg

from ops.schemas import FOLDER
from projections.projector import READ_MODELS
from projections.read_model import Place
from schemas import registry
from schemas.sending import SendAdmitted, SendRef, SendRequested

AT = datetime(2026, 3, 2, 8, 16, tzinfo=UTC)


def example(file: str) -> Any:
    """Return the fact of a published example, such as "send.failed.v1"."""
    name, _, rest = file.partition(".v")
    data = orjson.loads((FOLDER / "examples" / f"{file}.json").read_bytes())
    return registry.fact_of(name, int(rest.split(".")[0]), data)


def about(fact: Any, ref: SendRef) -> Any:
    """Return the fact about another send."""
    return msgspec.structs.replace(fact, ref=ref)


def admitted(send_id: str, recipient: str = "ab" * 32, client: str = "acme") -> SendAdmitted:
    """Return the admission of a send."""
    request: SendRequested = example("send.requested.v1")
    ref = msgspec.convert({"client": client, "send_id": send_id, "recipient": recipient}, SendRef)
    return SendAdmitted(about(request, ref))


def apply(
    database: str, *facts: registry.Fact, journal: str = "delivery-journal", partition: int = 0, first_seq: int = 1
) -> None:
    """Apply facts, one entry a minute each, as the projector does."""
    with psycopg.connect(database) as connection:
        for seq, fact in enumerate(facts, first_seq):
            place = Place(journal, partition, seq, 0, AT + timedelta(minutes=seq))
            for model in READ_MODELS:
                for sql, values in model(fact, place):
                    connection.execute(sql.encode(), values)


def rows(database: str, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask Postgres."""
    with psycopg.connect(database) as connection:
        return connection.execute(sql.encode(), values).fetchall()


def one(database: str, table: str, *columns: str) -> Any:
    """Return the only row of a table as a tuple, one column as its value."""
    ((*found,),) = rows(database, f"select {', '.join(columns)} from {table}")
    return found[0] if len(columns) == 1 else tuple(found)
