"""A real headless Chromium, led over its DevTools protocol: pages, widths, colours, what its console says."""

import asyncio
import base64
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from ops.embedded.process import start, stop, wait_until

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
         "--remote-debugging-port=0"]  # fmt: skip


class Tab:
    """One tab. `said` collects errors of its console, refused resources and exceptions."""

    def __init__(self, socket: "aiohttp.ClientWebSocketResponse") -> None:
        self._socket = socket
        self._last = 0
        self.said: list[str] = []
        self.asked: list[str] = []
        self._loaded = asyncio.Event()
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def read(self) -> None:
        """Take what Chromium says, until it hangs up."""
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                self._answers.pop(told["id"]).set_result(told)
            elif told["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif told["method"] == "Network.requestWillBeSent":
                self.asked.append(told["params"]["request"]["url"])
            elif told["method"] in ("Log.entryAdded", "Runtime.exceptionThrown"):
                self.said.append(str(told["params"]))

    async def call(self, method: str, **params: object) -> Any:
        """Order something; return its result."""
        self._last += 1
        answer = self._answers[self._last] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._last, "method": method, "params": params})
        async with asyncio.timeout(20):
            told = await answer
        assert "error" not in told, told
        return told["result"]

    async def open(self, url: str, width: int, dark: bool = False) -> None:
        """Load a page at this width."""
        phone = width < 600
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=phone
        )
        colours = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        await self.call("Emulation.setEmulatedMedia", features=colours)
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(20):
            await self._loaded.wait()

    async def value(self, script: str) -> Any:
        """Return what a script of the page's own world gives."""
        got = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in got, got
        return got["result"].get("value")

    async def picture(self, path: Path) -> None:
        """Save a picture of the whole page."""
        got = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(got["data"]))


@asynccontextmanager
async def chromium(folder: Path) -> AsyncIterator[Tab]:
    """Run Chromium with a profile in `folder`; give its tab."""
    profile, log = folder / "profile", folder / "chromium.log"
    profile.mkdir(parents=True)
    process = start(["chromium", *FLAGS, f"--user-data-dir={profile}", "about:blank"], log)
    try:
        port = profile / "DevToolsActivePort"
        wait_until(lambda: port.exists() and "\n" in port.read_text(), process, "Chromium", log, 30)
        async with aiohttp.ClientSession() as session:
            where = f"http://127.0.0.1:{port.read_text().split()[0]}/json"
            async with session.get(where) as answer:
                (tab,) = [each for each in await answer.json() if each["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                led = Tab(socket)
                reading = asyncio.create_task(led.read())
                for domain in ("Page", "Runtime", "Log", "Network"):
                    await led.call(f"{domain}.enable")
                yield led
                reading.cancel()
    finally:
        stop(process, signal.SIGTERM)
