"""Breaks real reports in every way and reads them: `python -m ops.fuzz_reports FOLDER --messages 100000`.

The reader may say anything of a broken message, but it must say it soon, and for each recipient.
"""

import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import click
import msgspec
from rich.progress import track

from ops.classified import files_of, messages, parsed_and_understood

SLOWEST_S = 1.0
_SPLICES = (
    b"\n\n",
    b"\r",
    b"\0",
    b"--",
    b"=",
    b"<>",
    b"@",
    b"550 ",
    b"5.1.1 ",
    b":",
    b"\xff\xfe",
    b"\xe2\x80\xa8",
    b"Final-Recipient: rfc822;",
    b"Content-Type: multipart/mixed; boundary=x\n\n--x\n",
    b"Content-Transfer-Encoding: base64\n",
    b"=?utf-8?B?////?=",
    b"From ",
    b"<" * 500,
    b"a@" * 300,
    b"{" * 300,
    b"charset=idna",
    b"Feedback-Type: abuse\n",
    b">" * 200,
    b"<<< 550-",
    b" " * 2_000,
    b"5.1.1." * 200,
)


class Fuzzed(msgspec.Struct, frozen=True):
    """What reading broken messages came to."""

    read: int
    crashes: tuple[str, ...]  # seed and exception
    slowest_s: float


def broken(seed: int, corpus: Sequence[bytes]) -> bytes:
    """Return the message of this seed: one of the corpus, broken one to twelve times."""
    random_ = random.Random(seed)
    raw = bytearray(random_.choice(corpus))
    for _time in range(random_.randint(1, 12)):
        at = random_.randint(0, len(raw))
        to = min(len(raw), at + random_.choice((1, 3, 20, 200, 5_000)))
        match random_.randrange(8):
            case 0:
                del raw[at:to]
            case 1:
                raw[at:at] = random_.choice(_SPLICES)
            case 2:
                raw[at:to] = random_.randbytes(to - at)
            case 3:
                raw[at:at] = raw[at:to] * random_.randint(1, 20)
            case 4:
                other = random_.choice(corpus)
                start = random_.randint(0, len(other))
                raw[at:to] = other[start : start + 3_000]
            case 5:
                del raw[at:]
            case 6:
                raw[at:to] = raw[at:to].swapcase()
            case _:
                raw = raw.replace(
                    *random_.choice(
                        ((b"\r\n", b"\n"), (b"\n", b"\r\n"), (b"\n\n", b"\n"), (b":", b""), (b" ", b""), (b"\n", b""))
                    )
                )
    return bytes(raw)


def read_each(seeds: Sequence[int], make: Callable[[int], bytes], read: Callable[[bytes], str]) -> Fuzzed:
    """Read what `make` makes of each seed, and time it; `read` returns what is wrong with the answer, or ""."""
    crashes = []
    slowest = 0.0
    for seed in seeds:
        raw = make(seed)
        start = time.perf_counter()
        try:
            wrong = read(raw)
        except Exception as error:  # noqa: BLE001  # which ones there are is what is asked
            wrong = repr(error)
        if wrong:
            crashes.append(f"{seed}: {wrong}")
        slowest = max(slowest, time.perf_counter() - start)
    return Fuzzed(len(seeds), tuple(crashes), slowest)


def fuzz(corpus: Sequence[bytes], seeds: Sequence[int]) -> Fuzzed:
    """Read and classify the broken message of each seed."""
    return read_each(
        seeds, lambda seed: broken(seed, corpus), lambda raw: "" if parsed_and_understood(raw) else "no finding"
    )


def fuzz_all(seed: int, count: int, at_once: int, fuzz_some: Callable[[Sequence[int]], Fuzzed]) -> NoReturn:
    """Read `count` from the first seed on, show how far it is, say what was found, and end the program."""
    chunks = [range(at, min(at + at_once, seed + count)) for at in range(seed, seed + count, at_once)]
    done = [fuzz_some(chunk) for chunk in track(chunks, "reading")]
    crashes = [crash for part in done for crash in part.crashes]
    slowest = max(part.slowest_s for part in done)
    click.echo(f"{sum(part.read for part in done)} read, {len(crashes)} crashes, the slowest took {slowest:.3f} s")
    for crash in crashes[:20]:
        click.echo(crash)
    raise SystemExit(1 if crashes or slowest >= SLOWEST_S else 0)


@click.command()
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option("--messages", "count", default=100_000, show_default=True)
@click.option("--seed", default=0, show_default=True, help="The first seed; each message has its own.")
def main(folder: Path, count: int, seed: int) -> None:
    """Read COUNT broken messages made of those in FOLDER. Exit code 1 after a crash, or a message that took 1 s."""
    corpus = [raw for file in files_of(folder) for raw in messages(file)]
    fuzz_all(seed, count, 500, lambda seeds: fuzz(corpus, seeds))


if __name__ == "__main__":
    main()
