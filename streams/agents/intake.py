"""Intake: reads send-requests, validates, and passes each on, in order, without address or body.

A plain consumer, not a Faust agent: produce, await the acknowledgement, then commit. A repetition after a
crash has the same origin and is ignored by the stage; `duplicate` is said only of another request.
"""

import asyncio
import hashlib
import logging
import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import msgspec
import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from adapters.interface import without_addresses
from adapters.message import HeaderInvalid, check_headers
from schemas import registry
from schemas.envelope import Origin, Unreadable, to_wire
from schemas.ids import DomainName, MailboxAddress
from schemas.metrics import REQUESTS
from schemas.registry import Fact
from schemas.requests import MAX_MESSAGE_BYTES, CancelRequest, SendRequest, asked, who_asks
from schemas.sending import (
    CancelRequested,
    ContentRef,
    LetterDied,
    RefusedReason,
    RequestRejected,
    SendRef,
    SendRequested,
)
from schemas.topics import DEAD_LETTERS, DELIVERY_INPUTS, FILLER, FLEET_INPUTS, SEND_REQUESTS, Topic, partition_of
from streams.delivery.identity import (
    AddressInvalid,
    delivery_key,
    domain_of,
    key_of_nobody,
    loose,
    normalise,
    recipient_of,
    token_of,
)
from streams.log.kafka import AppendUncertain, Record, Writer, record_of
from streams.settings import Settings

log = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(days=13)
LONGEST_LABEL = 1_000
"""Characters of anything that a fact carries on: it must fit journals and rows many times over."""
RESULTS = {LetterDied: "dead_letter", RequestRejected: "rejected", CancelRequested: "cancel"}


class Rejected(Exception):
    """The request cannot be a send; `reason` is of the closed list, `detail` is short and without addresses."""

    def __init__(self, reason: RefusedReason, detail: str) -> None:
        super().__init__(detail)
        self.reason: RefusedReason = reason
        self.detail = without_addresses(detail[:2_000])


def read_request(record: Record, topic_id: str, key: bytes) -> tuple[Topic, bytes, Fact]:
    """Return (topic, key, fact) of what is asked. Raises Unreadable when nobody can be answered."""
    request = asked(record.value)
    who = who_asks(request.data)
    if request.type == "cancel" and request.v == 1:
        return FLEET_INPUTS, *_cancel(request.data)
    if who is None:
        raise Unreadable("client or send_id is missing or not of 1-128 [A-Za-z0-9_.:-]: nobody can be answered")
    try:
        if request.type != "send" or request.v != 1:
            raise Rejected("invalid", f"type {request.type!r} v{request.v} is not known; send v1 and cancel v1 are")
        fact = _send(record, request.data, topic_id, key)
    except Rejected as rejected:
        answer = RequestRejected(*who, rejected.reason, rejected.detail)
        return DELIVERY_INPUTS, key_of_nobody("/".join(who)), answer
    return DELIVERY_INPUTS, delivery_key(fact.ref.recipient), fact


def _cancel(data: dict[str, Any]) -> tuple[bytes, Fact]:
    try:
        cancel = msgspec.convert(data, CancelRequest)
    except msgspec.ValidationError as error:
        raise Unreadable(f"not a cancel: {error}") from error
    if [bool(cancel.send_id), bool(cancel.thread_id), bool(cancel.campaign)].count(True) != 1:
        raise Unreadable("a cancel names exactly one of send_id, thread_id, campaign")
    if who_asks({"client": cancel.client, "send_id": cancel.send_id or "any"}) is None:
        raise Unreadable("client or send_id of the cancel is not of 1-128 [A-Za-z0-9_.:-]")
    try:
        _check_labels({"thread_id": cancel.thread_id, "campaign": cancel.campaign})
    except Rejected as rejected:
        raise Unreadable(f"not a cancel: {rejected.detail}") from rejected
    return cancel.client.encode(), CancelRequested(cancel.client, cancel.send_id, cancel.thread_id, cancel.campaign)


def _send(record: Record, data: dict[str, Any], topic_id: str, key: bytes) -> SendRequested:
    raw = record.value or b""
    if len(raw) > MAX_MESSAGE_BYTES:
        raise Rejected("too_large", f"the request has {len(raw)} bytes, the limit is {MAX_MESSAGE_BYTES}")
    if not data.get("basis"):
        raise Rejected("no_basis", "basis {type, source, captured_at} is missing: why may this person be written to?")
    try:
        request = msgspec.convert(data, SendRequest)
        address = normalise(request.to)
        check_headers(request.subject, (request.to_name, request.from_name), request.headers)
    except msgspec.ValidationError as error:
        raise Rejected("invalid", str(error)) from error
    except (AddressInvalid, HeaderInvalid) as error:
        raise Rejected("invalid", str(error)) from error
    _check_labels(
        {
            "campaign": request.campaign,
            "thread_id": request.thread_id,
            "recipient_country": request.recipient_country,
            "entity_type": request.entity_type,
            "list_id": request.list_id,
            "mailbox": request.mailbox,
            "basis.source": request.basis.source,
            "basis.evidence": request.basis.evidence,
        }
    )
    _check_placeholders(request)
    if request.test and (not request.mailbox or request.basis.type != "transactional"):
        raise Rejected("invalid", "a test names its mailbox and has the basis transactional: campaigns count in rates")
    expires_at = _expiry(request, record.at)
    recipient = recipient_of(address, key)
    return SendRequested(
        ref=SendRef(request.client, request.send_id, recipient),
        campaign=request.campaign,
        content=ContentRef(topic_id, record.partition, record.offset, hashlib.sha256(raw).hexdigest(), len(raw)),
        content_sha256=_digest(data),
        recipient_loose=recipient_of(loose(address), key),
        recipient_domain=domain_of(address),
        basis=request.basis,
        requested_at=record.at,
        expires_at=expires_at,
        not_before=request.not_before,
        thread_id=request.thread_id,
        priority=request.priority,
        recipient_country=request.recipient_country,
        entity_type=request.entity_type,
        list_id=request.list_id,
        mailbox=MailboxAddress(request.mailbox.strip().lower()),
        token=token_of(recipient, request.client, request.send_id, key),
        test=request.test,
    )


def _check_placeholders(request: SendRequest) -> None:
    """Raise Rejected for a mail without the sender's address or a way out (CAN-SPAM, RFC 8058, GDPR 21)."""
    if request.basis.type == "transactional":
        return
    for what, text in (("text", request.text), ("html", request.html)):
        for name in ("{{unsubscribe_url}}", "{{postal_address}}"):
            if name not in text and (text or what == "text"):
                raise Rejected("policy", f"{what} lacks {name}, which every mail that is not transactional needs")


def _digest(data: dict[str, Any]) -> str:
    try:
        return hashlib.sha256(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)).hexdigest()
    except orjson.JSONEncodeError as error:  # what orjson can read may be too deep for it to write
        raise Rejected("invalid", f"the request is nested too deeply: {error}") from error


def _check_labels(labels: dict[str, str]) -> None:
    """Raise Rejected for what facts, rows and Postgres cannot carry on."""
    for name, value in labels.items():
        if len(value) > LONGEST_LABEL:
            raise Rejected("invalid", f"{name} is longer than {LONGEST_LABEL} characters")
        if "\0" in value:
            raise Rejected("invalid", f"{name} has a NUL character")


def _expiry(request: SendRequest, arrived: datetime) -> datetime:
    moments = {
        "expires_at": request.expires_at,
        "not_before": request.not_before,
        "basis.captured_at": request.basis.captured_at,
    }
    for name, moment in moments.items():
        if moment is not None and moment.tzinfo is None:
            raise Rejected("invalid", f"{name} has no offset from UTC; write it like 2026-01-31T09:00:00Z")
    latest = arrived + LONGEST_WAIT
    if request.expires_at is not None and request.expires_at > latest:
        raise Rejected("invalid", "expires_at is more than 13 days after arrival")
    expires_at = request.expires_at or latest
    if request.not_before is not None and request.not_before >= expires_at:
        raise Rejected("invalid", "not_before is not before expires_at")
    return expires_at


class Receivers(Protocol):
    """Knows who receives a domain's mail."""

    async def of(self, domains: Collection[DomainName]) -> Mapping[DomainName, str]:
        """Return the receiving provider of each domain, "" where it was not looked up; soon, and never raising."""
        ...


class Intake:
    """One intake process. Several share the partitions of send-requests."""

    def __init__(self, settings: Settings, topic_id: str, receivers: Receivers) -> None:
        self._settings = settings
        self._topic_id = topic_id
        self._key = settings.fleet_key()
        self._receivers = receivers
        self._writer = Writer(settings.connection)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the record in hand."""
        self._stopping.set()

    async def run(self) -> None:
        """Read until stopped; begin anew at the last commit after any trouble with Kafka."""
        REQUESTS.labels("dead_letter")  # from 0 on: one that first appears at 1 has not grown, for Prometheus
        while not self._stopping.is_set():
            try:
                await self._session()
            except (KafkaError, AppendUncertain, OSError) as error:
                log.warning("intake begins anew at its last commit: %r", error)
                await asyncio.sleep(1)
        await self._writer.close()

    async def _session(self) -> None:
        consumer = AIOKafkaConsumer(
            self._settings.topic(SEND_REQUESTS),
            **self._settings.connection.options(),
            group_id=f"{self._settings.prefix}intake",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=int(self._settings.session_timeout_s * 1000),
            heartbeat_interval_ms=int(self._settings.session_timeout_s * 300),
        )
        await consumer.start()
        try:
            while not self._stopping.is_set():
                batches = await consumer.getmany(timeout_ms=200, max_records=200)
                for place, messages in batches.items():
                    await self._pass_on(consumer, place, messages)
        finally:
            await consumer.stop()

    async def _pass_on(self, consumer: Any, place: TopicPartition, messages: list[Any]) -> None:
        filled = (m.key == FILLER and m.value is None for m in messages)
        records = [record_of(m) for m, is_filler in zip(messages, filled, strict=True) if not is_filler]
        read = [self._read(record) for record in records]
        facts = await with_receivers([fact for _, _, fact in read], self._receivers)
        for record, (topic, key, _), fact in zip(records, read, facts, strict=True):
            await self._append(record, topic, key, fact)
        await consumer.commit({place: messages[-1].offset + 1})

    def _read(self, record: Record) -> tuple[Topic, bytes, Fact]:
        try:
            return read_request(record, self._topic_id, self._key)
        except Unreadable as error:
            value = record.value or b""
            digest = hashlib.sha256(value).hexdigest()
            died = LetterDied(record.topic, record.partition, record.offset, digest, str(error), len(value))
            return DEAD_LETTERS, record.topic.encode(), died

    async def _append(self, record: Record, topic: Topic, key: bytes, fact: Fact) -> None:
        envelope = registry.enveloped(
            fact,
            id=uuid.uuid4().hex,
            at=datetime.now(UTC),
            key=key.decode(),
            by=f"intake/{self._settings.name}",
            origin=Origin(SEND_REQUESTS.name, record.partition, record.offset, 0),
        )
        REQUESTS.labels(RESULTS.get(type(fact), "passed_on")).inc()
        to = partition_of(key, topic.partitions)
        await self._writer.append(self._settings.topic(topic), to, key, to_wire(envelope))


async def with_receivers(facts: list[Fact], receivers: Receivers) -> list[Fact]:
    """Return the facts, each request with its recipient's receiving provider; all are looked up at once."""
    domains = {fact.recipient_domain for fact in facts if isinstance(fact, SendRequested)}
    known = await receivers.of(domains) if domains else {}
    return [
        msgspec.structs.replace(fact, receiver=known.get(fact.recipient_domain, ""))
        if isinstance(fact, SendRequested)
        else fact
        for fact in facts
    ]
