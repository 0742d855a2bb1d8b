"""Follows the log of an agency's own MTA and publishes what it says of sends: `python -m ops.postfix.log_reader FILE`.

Runs on the MTA's host with KAFKA_BROKERS. Its place in the log and the mails that it follows stand in the state file,
written after Kafka has acknowledged: a crash repeats lines, it loses none. `-` reads lines from standard input.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ops.logs import set_up
from ops.postfix.log_lines import Followed, MtaLog
from schemas.reports import MtaLineSeen
from schemas.topics import DELIVERY_INPUTS
from streams.agents.facts import append
from streams.delivery.identity import key_in
from streams.log.kafka import AppendUncertain, Writer
from streams.settings import SettingMissing, Settings, from_environment

log = logging.getLogger("mailfleet")

Publish = Callable[[MtaLineSeen], Awaitable[None]]
POLL_S = 0.5
PATIENCE_S = 5.0  # between two tries to reach Kafka, and for the last one when told to end
BATCH = 1_000  # lines between two writes of the state
EX_CONFIG = 78


class Place(msgspec.Struct):
    """How far a log is read: the file by its inode, which stays when it is rotated by renaming."""

    inode: int = 0
    offset: int = 0
    mails: dict[str, Followed] = {}


class LogFile:
    """The lines of a file that grows and is rotated."""

    def __init__(self, path: Path, place: Place) -> None:
        self._path = path
        self.place = place
        self._file: BinaryIO | None = None

    def lines(self) -> Iterator[str]:
        """Yield the whole lines that are there and unread, those of a rotated file first."""
        while True:
            if self._file is None and not self._open():
                return
            yield from self._rest()
            if not self._rotated():
                return
            yield from self._rest()  # what came between the last look and the renaming
            self.close()
            self.place.inode = 0

    def _rest(self) -> Iterator[str]:
        file = self._file
        while file is not None and (line := file.readline()).endswith(b"\n"):
            self.place.offset += len(line)
            yield line.decode("utf-8", "replace").rstrip("\n")
        if file is not None:
            file.seek(self.place.offset)  # a line that is still being written is read when it is whole

    def _rotated(self) -> bool:
        if self._file is None:
            return False
        here = os.fstat(self._file.fileno())
        if here.st_size < self.place.offset:
            log.warning("%s was cut short; it is read from its beginning", self._path)
            self.place.offset = 0
            self._file.seek(0)
        with contextlib.suppress(FileNotFoundError):  # renamed, and the new one not made yet
            return self._path.stat().st_ino != here.st_ino
        return False

    def _open(self) -> bool:
        """Open the file that was read last, under whatever name, else the newest."""
        path, offset = self._path, 0
        if self.place.inode:
            known = [p for p in self._path.parent.glob(f"{self._path.name}*") if p.stat().st_ino == self.place.inode]
            if known:
                path, offset = known[0], self.place.offset
            else:
                log.warning("the log was rotated and packed away while nobody read: lines of it may be missing")
        try:
            self._file = path.open("rb")
        except FileNotFoundError:
            return False
        self.place.inode, self.place.offset = os.fstat(self._file.fileno()).st_ino, offset
        self._file.seek(offset)
        return True

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_state(path: Path) -> Place:
    """Return the place kept in the state file; the beginning when there is none."""
    return msgspec.json.decode(path.read_bytes(), type=Place) if path.exists() else Place()


def write_state(path: Path, place: Place) -> None:
    """Keep the place, whole or not at all."""
    beside = path.with_suffix(".new")
    beside.write_bytes(msgspec.json.encode(place))
    beside.replace(path)


async def follow(file: LogFile, state: Path, publish: Publish, stop: asyncio.Event, *, once: bool = False) -> None:
    """Publish what the file says and keep the place, until `stop`, or to its end when `once`."""
    mta = MtaLog(file.place.mails)
    try:
        while not stop.is_set():
            if await _batch(file, mta, publish):
                write_state(state, file.place)
            elif once:
                return
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), POLL_S)
    finally:
        file.close()


async def _batch(file: LogFile, mta: MtaLog, publish: Publish) -> int:
    """Publish what the next lines say; return how many there were."""
    done = 0
    for line in islice(file.lines(), BATCH):
        seen = mta.read(line)
        if seen is not None:
            await publish(seen)
        done += 1
    return done


async def read_stdin(publish: Publish) -> None:
    """Publish what standard input says, to its end; nothing is kept."""
    mta = MtaLog()
    while line := await asyncio.to_thread(sys.stdin.readline):
        seen = mta.read(line.rstrip("\n"))
        if seen is not None:
            await publish(seen)


class Publisher:
    """Appends to delivery-inputs, for as long as it takes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._writer = Writer(settings.connection)

    async def __call__(self, seen: MtaLineSeen) -> None:
        """Publish one line under the delivery key that its token carries."""
        key = key_in(seen.token)
        while True:
            try:
                await append(self._writer, self._settings, DELIVERY_INPUTS, seen, key, "mta log")
            except AppendUncertain as error:
                log.warning("%s; tried again in %.0f s", error, PATIENCE_S)
                await asyncio.sleep(PATIENCE_S)
            else:
                return

    async def close(self) -> None:
        """Hang up."""
        await self._writer.close()


async def run(settings: Settings, path: str, state: Path, *, once: bool) -> None:
    """Read until SIGTERM, SIGINT or the end of what is to be read."""
    publisher = Publisher(settings)
    try:
        if path == "-":
            await read_stdin(publisher)
        else:
            await _until_told(
                lambda stop: follow(LogFile(Path(path), read_state(state)), state, publisher, stop, once=once)
            )
    finally:
        await publisher.close()


async def _until_told(reading: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run until SIGTERM or SIGINT; what waits for Kafka then is given up, and read again at the next start."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    task, stopping = asyncio.ensure_future(reading(stop)), asyncio.ensure_future(stop.wait())
    await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    await asyncio.wait({task}, timeout=PATIENCE_S)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def main(arguments: list[str]) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m ops.postfix.log_reader", description=__doc__)
    parser.add_argument("file", help="Postfix's log, or - for standard input")
    parser.add_argument("--state", type=Path, default=Path("log_reader.json"), help="where the place is kept")
    parser.add_argument("--once", action="store_true", help="read what is there and end")
    given = parser.parse_args(arguments)
    try:
        settings = from_environment()
        set_up("mta-log-reader", settings.log_level, settings.log_format, settings.log_folder)
    except SettingMissing as error:
        print(f"mta log reader: {error}", file=sys.stderr)
        return EX_CONFIG
    asyncio.run(run(settings, given.file, given.state, once=given.once))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
