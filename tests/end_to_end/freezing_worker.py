"""A delivery worker that stops itself by SIGSTOP between a claim's yes and the request, while its FILE is there.

`python -m tests.end_to_end.freezing_worker FILE` with the environment of a worker; it removes FILE when it stops.
"""

import os
import signal
import sys
from pathlib import Path

from adapters.interface import Claim, Mail
from adapters.mail.mailgun import MailgunAdapter
from ops import run
from schemas.sending import Outcome, RouteCall

SUBMIT = MailgunAdapter.submit


def freeze_when(file: Path) -> None:
    """Have the adapter's claim freeze the whole process after its yes."""

    async def submit(self: MailgunAdapter, call: RouteCall, mail: Mail, claim: Claim) -> Outcome:
        async def claim_and_freeze() -> bool:
            yes = await claim()
            if yes:
                _freeze(file)
            return yes

        return await SUBMIT(self, call, mail, claim_and_freeze)

    MailgunAdapter.submit = submit  # type: ignore[method-assign]  # the one thing about this worker that is not real


def _freeze(file: Path) -> None:
    if file.exists():
        file.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    freeze_when(Path(sys.argv.pop()))
    sys.argv.append("delivery")
    sys.exit(run.main())
