"""Breaks webhook bodies in every way and reads them: `python -m ops.fuzz_webhooks FILE --bodies 100000`.

The file has one body a line: of Mailgun, of SNS, or an event of SES alone. Half of the bodies are broken octet by
octet, half keep their JSON and get odd values in it. The readers may refuse all of it, soon and by their own word.
"""

import random
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import click
import orjson

from adapters.reports import mailgun_events, mailgun_webhook, ses_events, sns
from adapters.reports.provider_event import NotAnEvent
from ops.fuzz_reports import Fuzzed, broken, fuzz_all, read_each
from schemas.envelope import to_wire
from schemas.registry import enveloped
from streams.agents.provider_reports import report_of
from streams.agents.unsubscribe_page import asks_for_it, token_of

KEY = b"0" * 32
_ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**63,
    1e308,
    "",
    "\0",
    "\u2028",
    "ʇ" * 5_000,
    "a@" * 3_000,
    "<" * 5_000,
    "5.1.1." * 1_000,
    "550-" * 1_000,
    "permanent",
    "Transient",
    "9" * 400,
    "0001-01-01T00:00:00Z",
    "2026-11-25T12:00:00+99:99",
    "=?utf-8?B?////?=",
    "h6ob2kvup2efabcdefghijklmnopqrstuvwxyz2",
    [],
    {},
    [[]],
    [None, 7, {"emailAddress": 7}],
    {"name": {"name": []}},
)


def bent(seed: int, corpus: Sequence[bytes]) -> bytes:
    """Return the body of this seed: one of the corpus with odd values in one to six places, still JSON."""
    random_ = random.Random(seed)
    told = orjson.loads(random_.choice(corpus))
    inner = isinstance(told.get("Message"), str) and random_.random() < 0.8
    event = orjson.loads(told["Message"]) if inner and told["Message"].startswith("{") else told
    for _time in range(random_.randint(1, 6)):
        _bend(random_, event)
    if event is not told:
        told["Message"] = orjson.dumps(event).decode()
    return orjson.dumps(told)


def _bend(random_: random.Random, value: Any) -> None:
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = random_.choice(keys)
        deeper = value[key]
        if not isinstance(deeper, dict | list) or random_.random() < 0.2:
            if isinstance(value, dict) and random_.random() < 0.2:
                del value[key]
            else:
                value[key] = deepcopy(random_.choice(_ODD))  # what is put in may be bent in its turn
            return
        value = deeper


def read(raw: bytes) -> int:
    """Read a body in every way that the door would, to the octets for Kafka; return how many facts it came to."""
    facts = 0
    for told in (_mailgun, _sns, ses_events.parse):
        try:
            events = told(raw).events
        except NotAnEvent:
            continue
        for event in events:
            key, fact = report_of(event, "webhook", KEY)
            to_wire(enveloped(fact, id="0", at=event.at, key=key.decode(), by="fuzz"))
            facts += 1
    asks_for_it("multipart/form-data; boundary=x", raw)
    asks_for_it(raw[:80].decode("latin-1"), raw)
    token_of(raw[:200].decode("latin-1"), raw[200:400].decode("latin-1"))
    return facts


def _mailgun(raw: bytes) -> Any:
    hook = mailgun_webhook.read(raw)
    hook.signer([mailgun_webhook.SigningKey(KEY)])
    return mailgun_events.parse(hook.event)


def _sns(raw: bytes) -> Any:
    return ses_events.parse(sns.read(raw).message.encode("utf-8", "replace"))


def fuzz(corpus: Sequence[bytes], seeds: Sequence[int]) -> Fuzzed:
    """Read the broken body of each seed."""

    def made(seed: int) -> bytes:
        return bent(seed, corpus) if seed % 2 else broken(seed, corpus)

    def told(raw: bytes) -> str:
        read(raw)
        return ""

    return read_each(seeds, made, told)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--bodies", "count", default=100_000, show_default=True)
@click.option("--seed", default=0, show_default=True, help="The first seed; each body has its own.")
def main(file: Path, count: int, seed: int) -> None:
    """Read COUNT broken bodies made of those in FILE. Exit code 1 after a crash, or a body that took 1 s."""
    corpus = file.read_bytes().splitlines()
    fuzz_all(seed, count, 1_000, lambda seeds: fuzz(corpus, seeds))


if __name__ == "__main__":
    main()
