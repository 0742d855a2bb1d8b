"""A claim that remembers when it was asked, and a submit whose outcome is looked at as every outcome must be."""

from collections.abc import Awaitable, Callable

import msgspec

from adapters.interface import Mail
from schemas.sending import NotSent, Outcome, Unknown
from tests.adapters.benches import Bench


class ClaimBroke(Exception):
    """The claim could not be asked."""


class Asked:
    """Says `answer` (or raises it) after `then`; notes how often and at which moment it was asked."""

    def __init__(
        self,
        bench: Bench,
        mail: Mail,
        *,
        answer: bool | Exception = True,
        then: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.times = 0
        self.said_yes = False
        self.already_there = 0
        self._bench, self._mail, self._answer, self._then = bench, mail, answer, then

    async def __call__(self) -> bool:
        """Answer once all but the last word is at the server."""
        self.times += 1
        await self._bench.all_but_the_last_word(self._mail)
        self.already_there = len(self._bench.arrived())
        await self._bench.note_claim()
        if self._then is not None:
            await self._then()
        if isinstance(self._answer, Exception):
            raise self._answer
        self.said_yes = self._answer
        return self._answer


async def submit(bench: Bench, mail: Mail, claim: Asked) -> Outcome:
    """Submit, and check what holds for every outcome of every provider."""
    outcome = await bench.adapter.submit(bench.call, mail, claim)
    assert claim.times <= 1
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=type(outcome)) == outcome
    said = repr(outcome)
    assert mail.recipient not in said
    assert mail.envelope_from not in said
    assert not any(word in said for word in bench.secret_words)
    assert claim.said_yes or not isinstance(outcome, Unknown)
    if isinstance(outcome, NotSent):
        assert "\n" not in outcome.what
        assert outcome.what
    return outcome
