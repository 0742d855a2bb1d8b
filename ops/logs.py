"""Logs as one JSON object a line, without addresses: {at, level, logger, process, message, error?}."""

import logging
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Literal

import orjson

from adapters.interface import without_addresses
from streams.settings import SettingMissing

NOISY = ("aiokafka", "faust", "mode")
"""Libraries that report as errors what they mend themselves: a leader not known yet, a coordinator not there yet."""

WIRE = {
    "aiokafka": logging.INFO,
    "botocore": logging.INFO,
    "faust": logging.INFO,
    "httpcore": logging.INFO,
    "httpx": logging.WARNING,  # the URL of each request at INFO; Telegram's has the bot's token in it
    "imapclient": logging.INFO,
    "telegram": logging.INFO,
}
"""Libraries that log, for debugging, what goes over the wire: mail, addresses, passwords. The level they begin at."""

LARGEST = 16_000_000
"""Bytes of a log file before it is moved to NAME.old.log; the archive empties larger ones of processes it is not by."""


class JsonFormatter(logging.Formatter):
    """One line of JSON for each record."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._process,
            "message": without_addresses(record.getMessage()),
        }
        if record.exc_info:
            line["error"] = "\n".join(map(without_addresses, self.formatException(record.exc_info).splitlines()))
        return orjson.dumps(line).decode()


class TextFormatter(logging.Formatter):
    """For a person's terminal."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the text, without addresses."""
        return "\n".join(map(without_addresses, super().format(record).splitlines()))


class LogFile(RotatingFileHandler):
    """FOLDER/PROCESS.log, and what was before it in PROCESS.old.log: together never more than twice LARGEST."""

    def __init__(self, folder: Path, process: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder / f"{process}.log", maxBytes=LARGEST, backupCount=1, encoding="utf-8")
        self.namer = lambda name: name.removesuffix(".log.1") + ".old.log"
        self.setFormatter(JsonFormatter(process))

    def handleError(self, record: logging.LogRecord) -> None:
        """Say nothing: standard error has the line, and a full disk is no reason to print it as it came."""


def set_up(process: str, level: str, form: Literal["json", "text"], folder: str = "") -> None:
    """Send all logs to standard error, and as JSON to a file in `folder`. Raises SettingMissing."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(process) if form == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name, least in WIRE.items():
        logging.getLogger(name).setLevel(max(least, logging.getLogger().level))
    if folder:
        try:
            logging.getLogger().addHandler(LogFile(Path(folder), process))
        except OSError as error:
            raise SettingMissing(
                f"LOG_FOLDER is {folder}, where no log can be written ({error.strerror}): name a folder that this "
                "process may write to, or none"
            ) from error


def quiet_libraries() -> None:
    """For commands at a terminal: libraries speak only of what they cannot mend."""
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
