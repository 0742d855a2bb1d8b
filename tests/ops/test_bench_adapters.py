"""The adapters' bench measures what it says: mails that a server took."""

from collections.abc import Callable

import pytest

from ops.bench_adapters import mailgun_rate, ses_rate, smtp_rate


@pytest.mark.parametrize("rate", [mailgun_rate, ses_rate])
def test_an_adapter_hands_mails_over_to_the_benchs_server(rate: Callable[[float], float]) -> None:
    assert rate(0.5) > 10


@pytest.mark.usefixtures("privileged")
def test_mail_goes_through_the_smtp_adapter_beside_postfixs_own_generator() -> None:
    found = smtp_rate(0.5, rounds=2)
    assert found.adapter > 0
    assert found.smtp_source > 0
    assert found.ratio > 0
