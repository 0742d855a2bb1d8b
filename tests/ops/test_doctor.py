"""The doctor at each provider's door: a good route, each thing that may be wrong with it; and no mail is sent."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from adapters.interface import RouteUnfit
from ops.commands.doctor import _forwarding, _route
from schemas.fleet import MailboxDeclared, RouteDeclared
from schemas.ids import ClientId, MailboxAddress
from streams.log.kafka import Connection
from streams.settings import ForwardSettings, SettingMissing, Settings
from tests.adapters.benches import Bench, MailgunBench, SesBench, SmtpBench

ACME = ClientId("acme")


@dataclasses.dataclass
class Door:
    """A provider's stand-in, and the route to it in a fleet."""

    bench: Bench
    home: Path
    way: RouteDeclared
    box: MailboxDeclared

    async def says(self) -> str:
        """Have the doctor look, in a loop of its own as the command has it."""
        settings = Settings(Connection("nowhere"), "", self.home, "w")
        return await asyncio.to_thread(_route, settings, self.way, self.box)

    def spoil_secret(self) -> None:
        """Rotate the secret to a wrong one."""
        path = self.home / "secrets" / self.box.secret_ref.removeprefix("file:")
        path.write_text("AKIDWRONG:wrong")

    def lose_secret(self) -> None:
        """Delete the secret."""
        (self.home / "secrets" / self.box.secret_ref.removeprefix("file:")).unlink()


@pytest.fixture(params=[SmtpBench, SesBench, MailgunBench], ids=["smtp", "ses", "mailgun"])
async def door(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Door]:
    """Each provider's door in turn."""
    (tmp_path / "secrets").mkdir()
    bench: Bench = request.param()
    await bench.start(tmp_path / "secrets", 5.0)
    call = bench.call
    way = RouteDeclared(
        ACME, call.route, call.provider, call.host, call.port, call.tls, call.ca_file_ref, options=call.options
    )
    box = MailboxDeclared(
        ACME, MailboxAddress("bob@firm.test"), (call.route,), 10, username=call.username, secret_ref=call.secret_ref
    )
    yield Door(bench, tmp_path, way, box)
    await bench.stop()


GOOD = {"smtp": "takes the login over starttls", "ses": "sending is on", "mailgun": "is active at"}


async def test_a_good_route_is_tried_and_no_mail_arrives(door: Door) -> None:
    assert GOOD[door.way.provider] in await door.says()
    assert door.bench.arrived() == []


@pytest.mark.parametrize("harm", [Door.spoil_secret, Door.lose_secret], ids=["wrong secret", "no secret"])
async def test_a_login_that_fails_says_what_to_do_without_the_secret(door: Door, harm: Callable[[Door], None]) -> None:
    harm(door)
    with pytest.raises(RouteUnfit) as failed:
        await door.says()
    said = str(failed.value)
    assert "wrong" not in said.replace("is wrong", "")
    assert any(word in said for word in ("check", "secret", "enable", "look at")), said


async def test_a_server_that_is_down_says_what_to_look_at(door: Door) -> None:
    door.bench.trouble(next(t for t in type(door.bench).troubles if t.name == "nobody listens"))
    with pytest.raises(RouteUnfit, match=r"check|look at"):
        await door.says()


@pytest.mark.parametrize("door", [SmtpBench], indirect=True, ids=["smtp"])
async def test_a_signing_key_that_cannot_be_used_is_found_before_mail_waits_for_it(door: Door) -> None:
    options = {"dkim_domain": "firm.test", "dkim_selector": "s1", "dkim_key_ref": "file:none.dkim"}
    door.way = msgspec.structs.replace(door.way, options=options)
    with pytest.raises(RouteUnfit, match=r"nothing leaves unsigned: secret file:none\.dkim"):
        await door.says()


async def test_the_account_for_passing_letters_on_is_tried_and_what_is_wrong_is_said(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    bench = SmtpBench()
    await bench.start(tmp_path / "secrets", 5.0)
    call = bench.call
    good = ForwardSettings(
        call.host, call.port, call.tls, "desk@a.test", call.username, call.secret_ref, call.ca_file_ref
    )

    async def says(given: ForwardSettings) -> str:
        return await _forwarding(Settings(Connection("nowhere"), "", tmp_path, "w", forward=given))

    assert "takes the login" in await says(good)
    with pytest.raises(RouteUnfit, match="refuses at auth"):
        await says(msgspec.structs.replace(good, username="nobody"))
    with pytest.raises(SettingMissing, match="FORWARD_SMTP is not set"):
        await says(ForwardSettings())
    await bench.stop()
