"""Many records into Kafka at once, in order per partition, each acknowledged; for restore and replay."""

from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from schemas.topics import MAX_RECORD_BYTES
from streams.log.kafka import AppendUncertain, Connection
from streams.log.topics import client_options


class OffsetTaken(Exception):
    """A record did not get the offset that it must have: something else writes to the topic."""


class Bulk:
    """One producer. What went wrong is raised by the next `put` or by `flush`, never passed over."""

    def __init__(self, connection: Connection) -> None:
        self._producer = Producer(
            {
                **client_options(connection),
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 20,
                "batch.size": 1_000_000,
                "message.max.bytes": MAX_RECORD_BYTES + 100_000,
                "delivery.timeout.ms": 60_000,
            }
        )
        self._wrong: Exception | None = None

    def put(
        self,
        topic: str,
        partition: int,
        key: bytes | None,
        value: bytes | None,
        *,
        at_ms: int = 0,
        headers: Sequence[tuple[str, bytes]] = (),
        expect: int = -1,
    ) -> None:
        """Send one record; `at_ms` 0 is now. Raises AppendUncertain, and OffsetTaken when it is not at `expect`."""

        def told(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._wrong = self._wrong or AppendUncertain(f"{topic}/{partition}: {error.str()}")
            elif expect >= 0 and message.offset() != expect:
                self._wrong = self._wrong or OffsetTaken(
                    f"{topic}/{partition}: a record stands at {message.offset()} that must stand at {expect}: "
                    "something else writes there. Stop all processes of this fleet, delete its topics and begin anew."
                )

        options: dict[str, Any] = {"timestamp": at_ms} if at_ms else {}
        while True:
            self._look()
            try:
                self._producer.produce(
                    topic, value, key, partition, on_delivery=told, headers=list(headers) or None, **options
                )
            except BufferError:
                self._producer.poll(0.5)
            else:
                self._producer.poll(0)
                return

    def flush(self) -> None:
        """Return when everything is acknowledged. Raises OffsetTaken, AppendUncertain."""
        while self._producer.flush(5):
            self._look()
        self._look()

    def _look(self) -> None:
        if self._wrong is not None:
            raise self._wrong
