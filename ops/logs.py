"""Logs as one JSON object a line, without addresses: {at, level, logger, process, message, error?}."""

import logging
from datetime import UTC, datetime
from typing import Literal

import orjson

from adapters.interface import without_addresses

NOISY = ("aiokafka", "faust", "mode")
"""Libraries that report as errors what they mend themselves: a leader not known yet, a coordinator not there yet."""

WIRE = ("imapclient",)
"""Libraries that log, for debugging, all that goes over the wire: mail, addresses."""


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


def set_up(process: str, level: str, form: Literal["json", "text"]) -> None:
    """Send all logs to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(process) if form == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in WIRE:
        logging.getLogger(name).setLevel(max(logging.INFO, logging.getLogger().level))


def quiet_libraries() -> None:
    """For commands at a terminal: libraries speak only of what they cannot mend."""
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.CRITICAL)
