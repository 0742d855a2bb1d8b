"""The adapters' bench measures what it says: mails that a server took."""

from ops.bench_adapters import mailgun_rate


def test_the_mailgun_adapter_hands_mails_over_to_the_benchs_server() -> None:
    assert mailgun_rate(0.5) > 10
