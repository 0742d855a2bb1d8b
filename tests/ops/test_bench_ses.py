"""The bench of SES measures mails that were accepted."""

from ops.bench_adapters import ses_rate


def test_the_bench_of_ses_gives_a_rate() -> None:
    assert ses_rate(0.3) > 10
