"""A log in memory at the stage's door, and over it one real delivery stage with its hands, fed by hand."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.interface import Claim, Mail, MailAdapter, Sought
from schemas import registry
from schemas.entry import entry_from_wire
from schemas.envelope import Envelope, from_wire, to_wire
from schemas.ids import MailboxAddress, RouteId
from schemas.registry import Fact
from schemas.sending import Accepted, Outcome, Refused, RouteCall, SendAssigned, Sender, SendRef, SendRequested
from schemas.topics import SEND_REQUESTS
from streams.agents.bodies import Bodies
from streams.agents.hands import Hands
from streams.agents.intake import read_request
from streams.delivery.mind import DeliveryMind
from streams.log.kafka import Connection, Reader, Record, Writer
from streams.log.stage import Doors, Partition, Places, Stage

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
KEY = b"k" * 32
JOURNAL, INPUTS, TICKS, CHANGELOG = "delivery-journal", "delivery-inputs", "delivery-ticks", "rows-changelog"
IDS = {JOURNAL: "id-j", INPUTS: "id-i", SEND_REQUESTS.name: "id-r"}
DEADLINE_S = 5.0


class MemoryLog:
    """Topics as lists. `held_up` names the event that appends to a topic wait for."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], list[Record]] = defaultdict(list)
        self.held_up: dict[str, asyncio.Event] = {}

    def put(self, topic: str, partition: int, value: bytes, at: datetime = NOW) -> Record:
        """Append and return the record."""
        place = self.records[topic, partition]
        place.append(Record(topic, partition, len(place), at, None, value))
        return place[-1]

    def facts(self, topic: str) -> list[Fact]:
        """Return the facts on all partitions of a topic."""
        raw = [record.value for (name, _), records in self.records.items() if name == topic for record in records]
        envelopes = [from_wire(value) for value in raw]
        return [registry.fact_of(e.type, e.v, e.data) for e in envelopes]


class MemoryReader(Reader):
    """Reads a MemoryLog."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(Connection("nowhere"))
        self._log = log

    async def ends(self, places: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the ends."""
        return {place: len(self._log.records[place]) for place in places}

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Return start and end."""
        return 0, len(self._log.records[topic, partition])

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncGenerator[list[Record], None]:
        """Yield one chunk."""
        yield self._log.records[topic, partition][start:end]


class MemoryWriter(Writer):
    """Writes a MemoryLog."""

    def __init__(self, log: MemoryLog) -> None:
        super().__init__(Connection("nowhere"))
        self._log = log

    async def append(self, topic: str, partition: int, key: bytes | None, value: bytes) -> int:
        """Append, after whatever holds the topic up."""
        if topic in self._log.held_up:
            await self._log.held_up[topic].wait()
        return self._log.put(topic, partition, value).offset


class MemoryRows:
    """A RowStore in a dict."""

    def __init__(self) -> None:
        self.kept: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        """Return the row."""
        return self.kept.get(key)

    def items(self, _partition: int) -> Iterable[tuple[bytes, bytes]]:
        """Return all rows."""
        return list(self.kept.items())

    async def write(self, _partition: int, rows: Mapping[bytes, bytes]) -> None:
        """Keep rows."""
        self.kept.update(rows)


Submit = Callable[[Claim], Any]


class Scripted:
    """An adapter that does what the test says; counts how many talk at once."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self.mails: list[Mail] = []
        self.talking = 0
        self.most_talking = 0
        self.closed = False
        self.sought: list[Sought] = []

    async def submit(self, call: RouteCall, mail: Mail, claim: Claim) -> Outcome:
        """Follow the script."""
        self.mails.append(mail)
        self.talking += 1
        self.most_talking = max(self.most_talking, self.talking)
        try:
            outcome: Outcome = await self._submit(claim)
            return outcome
        finally:
            self.talking -= 1

    async def find(self, _call: RouteCall, sought: Sought) -> Accepted | Refused | None:
        """Know nothing."""
        self.sought.append(sought)
        return None

    async def check(self, _call: RouteCall) -> str:
        """Say nothing."""
        return ""

    async def close(self) -> None:
        """Note it."""
        self.closed = True


class Worker:
    """One process with one delivery partition and its hands."""

    def __init__(self, adapter: MailAdapter) -> None:
        self.log = MemoryLog()
        self.clock = NOW
        reader = MemoryReader(self.log)
        places = Places(JOURNAL, INPUTS, TICKS, CHANGELOG, dict(IDS))
        doors = Doors(reader, MemoryWriter(self.log), MemoryRows(), clock=lambda: self.clock)
        self.stage = Stage(DeliveryMind(), places, doors)
        bodies = Bodies(reader, SEND_REQUESTS.name)
        self.hands = Hands(self.stage, bodies, {"memory": adapter}, KEY, clock=lambda: self.clock)
        self.stage.assigned([0])

    @property
    def partition(self) -> Partition:
        """The partition as it was at the beginning."""
        return self.stage.partitions[0]

    async def input(self, fact: Fact) -> None:
        """Let a fact come to the partition."""
        name = registry.TYPE_OF[type(fact)]
        envelope = Envelope("i", name, registry.VERSION_OF[name], NOW, "k", "test", registry.data_of(fact))
        await self.stage.take(self.log.put(INPUTS, 0, to_wire(envelope)))

    async def tick(self, at: datetime) -> None:
        """Let a tick of that time come to the partition."""
        await self.stage.tick(self.log.put(TICKS, 0, b"{}", at))

    async def request(self, send_id: str = "s1", **changes: Any) -> SendRef:
        """Ask for a send as upstream does and have it admitted."""
        data = {
            "client": "acme",
            "campaign": "news",
            "send_id": send_id,
            "to": "rita@example.test",
            "subject": "Hello",
            "text": "Hello Rita\n{{unsubscribe_url}}\n{{postal_address}}\n",
            "basis": {"type": "express_consent", "source": "form", "captured_at": "2026-01-01T00:00:00Z"},
        }
        raw = json.dumps({"type": "send", "v": 1, "data": {**data, **changes}}).encode()
        record = self.log.put(SEND_REQUESTS.name, 0, raw)
        _, _, fact = read_request(record, IDS[SEND_REQUESTS.name], KEY)
        assert isinstance(fact, SendRequested)
        await self.input(fact)
        return fact.ref

    async def assign(
        self, ref: SendRef, attempt: int = 1, *, route: str = "own", provider: str = "memory", lanes: int = 5
    ) -> None:
        """Assign an attempt for three minutes."""
        call = RouteCall(RouteId(route), provider, max_connections=lanes)
        sender = Sender(MailboxAddress("anna@acme.test"))
        ends = NOW + timedelta(minutes=3)
        await self.input(SendAssigned(ref, attempt, sender, call, NOW, ends, "2026-03-02", "round robin"))

    def decided(self) -> list[Fact]:
        """Return everything that the partition decided."""
        entries = [entry_from_wire(record.value) for record in self.log.records[JOURNAL, 0]]
        return [registry.fact_in(d) for entry in entries for d in entry.decided]

    def after_assignment(self) -> list[str]:
        """Return the names of what was decided after the send was assigned."""
        names = [type(fact).__name__ for fact in self.decided()]
        return names[names.index("AttemptAssigned") + 1 :]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds; fail at the deadline."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what it waits for are rows of a log, not events of ours
            await asyncio.sleep(0.001)
