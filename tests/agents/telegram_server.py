"""A local Bot API server: the calls that the bot uses, as https://core.telegram.org/bots/api describes them.

It keeps the messages of all chats. `breaks` cuts calls before or after they took effect, `away` answers nobody.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

TOKEN = "123456:a-token-of-the-tests"
CHAT = -1001
LONGEST = 4096  # UTF-16 units of a message's text
BOT = {"id": 123456, "is_bot": True, "first_name": "mailfleet", "username": "mailfleet_bot"}


@dataclass
class Message:
    """One message of a chat."""

    id: int
    text: str
    by_bot: bool = True
    buttons: Any = None
    silent: bool = False
    edits: int = 0


@dataclass
class BotServer:
    """What Telegram holds."""

    messages: dict[int, Message] = field(default_factory=dict)
    next_id: int = 100
    updates: list[dict[str, Any]] = field(default_factory=list)
    last_update: int = 0
    answers: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    away: bool = False
    hear_only: bool = False  # what the bot says is not taken
    patience_s: int = 0  # the next call is answered 429
    blocked: set[int] = field(default_factory=set)  # chats in which the bot may not write
    moved: dict[int, int] = field(default_factory=dict)  # groups that became supergroups
    hang_up_after: int = 0  # the n-th call from now takes effect and is not answered
    url: str = ""
    said: asyncio.Event = field(default_factory=asyncio.Event)  # a message came

    @property
    def texts(self) -> list[str]:
        """What the bot's messages say, in order."""
        return [message.text for message in self.messages.values() if message.by_bot]

    def person_says(self, text: str, person: int = 7, chat: int = CHAT) -> int:
        """A person writes to the chat."""
        message = self._keep(Message(self.next_id, text, by_bot=False))
        said = self._message(message, chat) | {"from": {"id": person, "is_bot": False, "first_name": "P"}}
        self._update({"message": said})
        return message.id

    def person_presses(self, message: Message, person: int = 7) -> None:
        """A person presses the first button of a message."""
        data = message.buttons["inline_keyboard"][0][0]["callback_data"]
        pressed = {"id": str(self.last_update), "from": {"id": person, "is_bot": False, "first_name": "P"}}
        pressed |= {"chat_instance": "1", "data": data, "message": self._message(message, CHAT)}
        self._update({"callback_query": pressed})

    def _update(self, what: dict[str, Any]) -> None:
        self.last_update += 1
        self.updates.append({"update_id": self.last_update, **what})

    def _keep(self, message: Message) -> Message:
        self.messages[message.id] = message
        self.next_id = message.id + 1
        self.said.set()
        return message

    @staticmethod
    def _message(message: Message, chat: int) -> dict[str, Any]:
        about = {"id": chat, "type": "supergroup", "title": "alerts"}
        return {"message_id": message.id, "date": 1_770_000_000, "chat": about, "text": message.text}

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one call."""
        if request.match_info["token"] != TOKEN:
            return self._no(401, "Unauthorized")
        method = request.match_info["method"]
        if self.away:
            return web.Response(status=502, text="bad gateway")
        values = dict(await request.post())
        if method == "getMe":
            return self._yes(BOT)
        if method == "getUpdates":
            return await self._updates(int(str(values.get("offset", 0))), float(str(values.get("timeout", 0))))
        self.calls.append(method)
        if self.hear_only:
            return web.Response(status=502, text="bad gateway")
        if self.patience_s:
            seconds, self.patience_s = self.patience_s, 0
            why = {"error_code": 429, "description": f"Too Many Requests: retry after {seconds}"}
            return web.json_response({"ok": False, **why, "parameters": {"retry_after": seconds}}, status=429)
        answer = self._did(method, {name: str(value) for name, value in values.items()})
        if self.hang_up_after:
            self.hang_up_after -= 1
            if not self.hang_up_after:
                assert request.transport is not None
                request.transport.abort()
        return answer

    def _did(self, method: str, values: dict[str, str]) -> web.Response:
        buttons = json.loads(values["reply_markup"]) if "reply_markup" in values else None
        if len(values.get("text", "").encode("utf-16-le")) > 2 * LONGEST:
            return self._no(400, "Bad Request: message is too long")
        if (to := self.moved.get(int(values.get("chat_id", 0)))) is not None:
            why = {"error_code": 400, "description": "Bad Request: group chat was upgraded to a supergroup chat"}
            parameters = {"migrate_to_chat_id": to}
            return web.json_response({"ok": False, **why, "parameters": parameters}, status=400)
        if method == "sendMessage":
            if int(values["chat_id"]) in self.blocked:
                return self._no(403, "Forbidden: bot was blocked by the user")
            quiet = values.get("disable_notification") == "True"
            made = self._keep(Message(self.next_id, values["text"], buttons=buttons, silent=quiet))
            return self._yes(self._message(made, int(values["chat_id"])))
        if method == "editMessageText":
            return self._edit(int(values["message_id"]), values, buttons)
        if method == "answerCallbackQuery":
            self.answers.append(values.get("text", ""))
            return self._yes(True)
        return self._no(404, "Not Found")

    def _edit(self, id_: int, values: dict[str, str], buttons: Any) -> web.Response:
        message = self.messages.get(id_)
        if message is None:
            return self._no(400, "Bad Request: message to edit not found")
        if not message.by_bot:
            return self._no(400, "Bad Request: message can't be edited")
        if (message.text, message.buttons) == (values["text"], buttons):
            same = "specified new message content and reply markup are exactly the same as a current content"
            return self._no(400, f"Bad Request: message is not modified: {same}")
        message.text, message.buttons, message.edits = values["text"], buttons, message.edits + 1
        return self._yes(self._message(message, int(values["chat_id"])))

    async def _updates(self, offset: int, timeout_s: float) -> web.Response:
        """Updates before the offset are confirmed by it and forgotten."""
        self.updates = [update for update in self.updates if update["update_id"] >= offset]
        deadline = asyncio.get_running_loop().time() + min(0.3, timeout_s)
        while not self.updates and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - one list
            await asyncio.sleep(0.02)
        return self._yes(self.updates)

    @staticmethod
    def _yes(result: Any) -> web.Response:
        return web.json_response({"ok": True, "result": result})

    @staticmethod
    def _no(code: int, description: str) -> web.Response:
        return web.json_response({"ok": False, "error_code": code, "description": description}, status=code)


@asynccontextmanager
async def running() -> AsyncIterator[BotServer]:
    """A server on loopback."""
    server = BotServer()
    app = web.Application()
    app.router.add_route("*", "/bot{token}/{method}", server.serve)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
    server.url = f"http://127.0.0.1:{port}/bot"
    try:
        yield server
    finally:
        await runner.cleanup()
