"""No secret and no recipient's address stands anywhere but in send-requests: topics, tables, local state, logs."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import psycopg

from adapters.secrets import Secrets
from ops import receiver
from ops.site import Site
from schemas.topics import CATALOGUE, SEND_REQUESTS
from streams.log.kafka import Reader
from streams.roles import all_topics
from tests.faults.story import Story, fleet_text, requests

PLANTED = (
    receiver.PASSWORD,
    "s3cret-of-another-box",
    "person7@company7.test",
    "nouser8@company8.test",
    "person9",
    "s3cret-of-tomorrow",
)


async def _topics(site: Site) -> list[tuple[str, bytes]]:
    """Return every record of every topic but send-requests."""
    found: list[tuple[str, bytes]] = []
    reader = Reader(site.settings.connection)
    try:
        for name, (partitions, _) in all_topics(site.settings).items():
            if name == site.settings.topic(SEND_REQUESTS):
                continue
            for partition in range(partitions):
                start, end = await reader.bounds(name, partition)
                async for chunk in reader.read(name, partition, start, end):
                    found += [(name, (record.key or b"") + (record.value or b"")) for record in chunk]
    finally:
        await reader.close()
    return found


def _tables(database: str) -> Iterator[tuple[str, bytes]]:
    """Yield every row of every table."""
    with psycopg.connect(database) as connection:
        names = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        for (name,) in names:
            for (row,) in connection.execute(f"select t::text from public.{name} t".encode()):
                yield name, row.encode()


def _mailfleet(site: Site, *arguments: str) -> str:
    """Run the command; return what it prints."""
    command = [sys.executable, "-m", "ops.cli", *arguments]
    environment = {**os.environ, **site.environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    for path in folder.rglob("*"):
        if path.is_file():
            yield path.name, path.read_bytes()


def test_planted_secrets_and_addresses_are_found_nowhere_but_where_they_belong(site: Site, database: str) -> None:
    site.keep_secret("other.password", PLANTED[1])
    story = Story(site, database)
    text = fleet_text(6).replace('secret = "file:demo.password"', 'secret = "file:other.password"', 1)
    assert text.count("other.password") == 1
    story.begin(text)  # one client's logins are refused
    asked = requests(20)
    asked[8]["data"]["to"] = PLANTED[3]
    story.ask(asked)
    story.wait(lambda: story.found().get("accepted", 0) >= 9, 60, "the other client's mail")
    story.wait(
        lambda: bool(story.query("select 1 from decisions where rule = 'login-refused'")), 60, "the refused login"
    )
    status = _mailfleet(site, "status", "--json")
    failing = {row["mailbox"].rpartition("@")[2] for row in orjson.loads(status)["logins that fail"]}
    assert failing == {"acme.test"}
    new = site.folder / "new.csv"
    new.write_text(f"mailbox,password\nbox0@acme.test,{PLANTED[5]}\n")
    assert PLANTED[5] not in _mailfleet(site, "secrets", str(new), "--yes")
    new.unlink()
    assert Secrets(site.settings.secrets_folder).resolve("file:other.password") == PLANTED[5]
    kept = list(_files(site.folder / "home" / "state"))
    seen = [*asyncio.run(_topics(site)), *_tables(database), *kept, *_files(site.folder / "logs")]
    assert {topic.name for topic in CATALOGUE.values() if topic.journal} <= {
        name.removeprefix(site.settings.prefix) for name, _ in seen
    }
    assert kept, "the local state was looked at"
    leaks = sorted({(name, secret) for name, raw in seen for secret in PLANTED if secret.encode() in raw})
    assert leaks == []
