"""Commands about ways out: test-send."""

import asyncio
import sys
import uuid
from datetime import UTC, datetime
from typing import Any

import click
import msgspec
from rich.console import Console

from adapters.dkim_sign import CannotSign, Signer
from adapters.message import build, identity
from adapters.secrets import SecretMissing, Secrets
from ops.commands.settings import settings
from ops.fleet_plan import known
from ops.site import publish_requests
from schemas.fleet import ClientDeclared, MailboxDeclared, RouteDeclared
from schemas.requests import SendRequest
from schemas.sending import Sender
from streams.delivery.identity import AddressInvalid, normalise, recipient_of, token_of
from streams.fleet.choose import call_of
from streams.fleet.state import MailboxRow, RouteRow

out = Console()
errors = Console(stderr=True)


@click.command("test-send")
@click.argument("mailbox")
@click.argument("address")
@click.option("--preview", is_flag=True, help="Print the message with its headers; send nothing.")
def test_send(mailbox: str, address: str, preview: bool) -> None:
    """Send one mail from MAILBOX to ADDRESS, your own: does it arrive, and how does it look?

    It goes through the whole pipeline, keeps hours and gap, and counts in the mailbox's quota, but not in its
    health, warm-up or a list's canary. Watch it with `mailfleet why`. Exit code 1 when nobody declared the mailbox.
    """
    facts = asyncio.run(known(settings()))
    box = next((f for f in facts if isinstance(f, MailboxDeclared) and f.mailbox == mailbox.lower()), None)
    clients = {f.client: f for f in facts if isinstance(f, ClientDeclared)}
    client = clients.get(box.client) if box is not None else None
    if box is None or client is None:
        errors.print(f"no mailbox {mailbox} is declared; `mailfleet apply` declares them", style="red", soft_wrap=True)
        sys.exit(1)
    try:
        data = _request(client, box, normalise(address))
    except AddressInvalid as error:
        raise click.UsageError(f"ADDRESS: {error}") from error
    if preview:
        way = next((f for f in facts if isinstance(f, RouteDeclared) and _is_first(f, box)), None)
        try:
            sys.stdout.buffer.write(_rendered(client, box, way, data))
        except (CannotSign, SecretMissing) as error:
            errors.print(f"it could not be signed: {error}", style="red", soft_wrap=True)
            sys.exit(1)
        return
    asyncio.run(publish_requests(settings(), [{"type": "send", "v": 1, "data": data}]))
    out.print(f"published; look with: mailfleet why {client.client}/{data['send_id']}")


def _request(client: ClientDeclared, box: MailboxDeclared, address: str) -> dict[str, Any]:
    now = datetime.now(UTC)
    told = f"This is a test of {box.mailbox}, sent {now:%Y-%m-%d %H:%M} UTC."
    return {
        "client": client.client,
        "campaign": client.campaigns[0],
        "send_id": f"test-{uuid.uuid4().hex[:12]}",
        "to": address,
        "subject": f"Test from {box.mailbox}",
        "text": f"{told}\n\n{{{{postal_address}}}}\n{{{{unsubscribe_url}}}}\n",
        "mailbox": box.mailbox,
        "priority": 0,
        "test": True,
        "basis": {"type": "transactional", "source": "test-send, by the operator", "captured_at": now.isoformat()},
    }


def _is_first(way: RouteDeclared, box: MailboxDeclared) -> bool:
    return way.client == box.client and way.route == box.routes[0]


def _rendered(client: ClientDeclared, box: MailboxDeclared, way: RouteDeclared | None, data: dict[str, Any]) -> bytes:
    """Return the message as it would leave over the mailbox's first route: signed, where that signs."""
    request = msgspec.convert(data, SendRequest)
    key = settings().fleet_key()
    token = token_of(recipient_of(request.to, key), request.client, request.send_id, key)
    sender = Sender(box.mailbox, box.name, client.postal_address, client.unsubscribe_url)
    raw = build(request, sender, identity(token, box.mailbox), datetime.now(UTC))
    if way is None:
        return raw
    return Signer(Secrets(settings().secrets_folder)).sign(raw, call_of(MailboxRow(box), RouteRow(way)))
