"""A hand signs what the route asks for before the adapter sees it, and what cannot be signed does not leave."""

from pathlib import Path

import pytest

from adapters.dkim_sign import CannotSign
from adapters.mail.memory import MemoryAdapter
from adapters.secrets import SecretMissing, Secrets
from schemas.sending import AttemptNotSent, RouteCall
from tests.agents.memory_log import Worker, until


async def test_the_adapter_gets_the_signed_mail() -> None:
    memory = MemoryAdapter(Secrets(Path("nowhere")))
    worker = Worker(memory)
    asked: list[RouteCall] = []

    def sign(raw: bytes, call: RouteCall) -> bytes:
        asked.append(call)
        return b"DKIM-Signature: x\r\n" + raw

    worker.hands._sign = sign
    await worker.assign(await worker.request())
    await until(lambda: "AttemptAccepted" in worker.after_assignment())
    assert [mail.raw[:25] for mail in memory.kept] == [b"DKIM-Signature: x\r\nFrom: "]
    assert [call.route for call in asked] == ["own"]


@pytest.mark.parametrize("error", [CannotSign("the DKIM key is odd"), SecretMissing("secret file:x cannot be read")])
async def test_what_cannot_be_signed_is_not_sent(error: Exception) -> None:
    memory = MemoryAdapter(Secrets(Path("nowhere")))
    worker = Worker(memory)

    def sign(_raw: bytes, _call: RouteCall) -> bytes:
        raise error

    worker.hands._sign = sign
    await worker.assign(await worker.request())
    await until(lambda: "AttemptNotSent" in worker.after_assignment())
    (said,) = [fact for fact in worker.decided() if isinstance(fact, AttemptNotSent)]
    assert said.stage == "body"
    assert said.what == str(error)
    assert memory.kept == []
