"""How long the property tests look: fixed counts, the same examples in every run, no deadline per example.

MAILFLEET_LOOK_HARDER=20 runs twenty times as many examples, other ones each time.
"""

import os

from hypothesis import HealthCheck, settings

HARDER = int(os.environ.get("MAILFLEET_LOOK_HARDER", "0"))
settings.register_profile(
    "mind",
    deadline=None,
    database=None,
    derandomize=not HARDER,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)


def bounded(examples: int) -> settings:
    """Return the profile with this number of examples."""
    return settings(settings.get_profile("mind"), max_examples=examples * (HARDER or 1))
