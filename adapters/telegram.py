"""The Telegram Bot API through python-telegram-bot: say, edit, and hear; every refusal as one of three kinds."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from telegram import Bot, InlineKeyboardButton, InlineKeyboardMarkup, Update
from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, NetworkError, RetryAfter, TelegramError
from telegram.request import HTTPXRequest
from telegram.warnings import PTBDeprecationWarning

POLL_S = 20
NOT_MODIFIED, NOT_FOUND, NOT_OURS = "message is not modified", "message to edit not found", "message can't be edited"
"""Texts of editMessageText's refusals (Bot API server, as of 2026)."""


class TelegramAway(Exception):
    """Telegram was not reached or asked for patience; nothing is known to have happened. `after_s`: not before."""

    def __init__(self, what: str, after_s: float = 0) -> None:
        super().__init__(what)
        self.after_s = after_s


class TelegramRefused(Exception):
    """Telegram refused for good: a wrong token, a chat that the bot is not in, a text that it cannot take."""


@dataclass(frozen=True)
class Heard:
    """What a person wrote or pressed. `button` is the pressed button's data, "" for a text."""

    update_id: int
    person: int
    chat: int
    message: int = 0  # the id of the text, or of the message with the button
    text: str = ""
    button: str = ""
    query: str = ""


class Telegram:
    """One bot. `base_url` is Telegram's own unless a test gives another."""

    def __init__(self, token: str, base_url: str = "https://api.telegram.org/bot") -> None:
        quick = HTTPXRequest(connect_timeout=5, read_timeout=10, write_timeout=10)
        long = HTTPXRequest(connect_timeout=5, read_timeout=POLL_S + 10, write_timeout=10)
        self._bot = Bot(token, base_url=base_url, request=quick, get_updates_request=long)

    async def open(self) -> str:
        """Log in and return the bot's name. Raises TelegramAway, TelegramRefused."""
        try:
            await self._bot.initialize()
        except TelegramError as error:
            raise _kind(error) from error
        return self._bot.username or ""

    async def close(self) -> None:
        """Hang up."""
        await self._bot.shutdown()

    async def say(self, chat: int, text: str, buttons: Sequence[tuple[str, str]] = (), *, silent: bool = False) -> int:
        """Send a message; return its id. Raises TelegramAway (it may have been sent), TelegramRefused."""
        try:
            sent = await self._bot.send_message(chat, text, reply_markup=_markup(buttons), disable_notification=silent)
        except TelegramError as error:
            raise _kind(error) from error
        return sent.message_id

    async def edit(self, chat: int, message: int, text: str, buttons: Sequence[tuple[str, str]] = ()) -> str:
        """Change a message; return "changed", "same" (it says this already), or "not ours" (none of ours, or gone).

        Raises TelegramAway, TelegramRefused.
        """
        try:
            await self._bot.edit_message_text(text, chat, message, reply_markup=_markup(buttons))
        except BadRequest as error:
            said = error.message.lower()
            if NOT_MODIFIED in said:
                return "same"
            if NOT_FOUND in said or NOT_OURS in said:
                return "not ours"
            raise TelegramRefused(error.message) from error
        except TelegramError as error:
            raise _kind(error) from error
        return "changed"

    async def hear(self, after: int) -> list[Heard]:
        """Wait for what people say after update `after`. Raises TelegramAway, TelegramRefused."""
        try:
            updates = await self._bot.get_updates(
                offset=after + 1, timeout=POLL_S, allowed_updates=["message", "callback_query"]
            )
        except TelegramError as error:
            raise _kind(error) from error
        return [_heard(update) for update in updates]

    async def confirm(self, update: int) -> None:
        """Let Telegram forget this update and those before it. Raises TelegramAway, TelegramRefused."""
        try:
            await self._bot.get_updates(offset=update + 1, limit=1, timeout=0)
        except TelegramError as error:
            raise _kind(error) from error

    async def answer(self, query: str, text: str) -> None:
        """Show a short answer to a pressed button. Raises TelegramAway; an old query is no error."""
        try:
            await self._bot.answer_callback_query(query, text[:200])
        except BadRequest:
            return  # pressed long ago: the button's effect is what counts
        except TelegramError as error:
            raise _kind(error) from error


def _heard(update: Update) -> Heard:
    pressed = update.callback_query
    if pressed is not None:
        place = pressed.message
        chat, message = (place.chat.id, place.message_id) if place is not None else (0, 0)
        return Heard(update.update_id, pressed.from_user.id, chat, message, button=pressed.data or "", query=pressed.id)
    said = update.message
    if said is None or said.from_user is None:
        return Heard(update.update_id, 0, 0)
    return Heard(update.update_id, said.from_user.id, said.chat.id, said.message_id, said.text or "")


def _markup(buttons: Sequence[tuple[str, str]]) -> InlineKeyboardMarkup | None:
    if not buttons:
        return None
    return InlineKeyboardMarkup([[InlineKeyboardButton(label, callback_data=data) for label, data in buttons]])


def _kind(error: TelegramError) -> TelegramAway | TelegramRefused:
    """BadRequest is a NetworkError in the library's tree: it is looked at first. Never the URL: it has the token."""
    if isinstance(error, RetryAfter):
        return TelegramAway("asked for patience", _patience(error))
    if isinstance(error, ChatMigrated):
        return TelegramRefused(f"the group became a supergroup, whose chat is {error.new_chat_id}")
    if isinstance(error, BadRequest | Forbidden | InvalidToken):
        return TelegramRefused(error.message)
    if isinstance(error, NetworkError):
        return TelegramAway("not reached")
    return TelegramAway(f"answered {type(error).__name__}")


def _patience(error: RetryAfter) -> float:
    """Seconds; the library is about to change the type and warns of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PTBDeprecationWarning)
        asked = error.retry_after
    return asked.total_seconds() if isinstance(asked, timedelta) else float(asked)
