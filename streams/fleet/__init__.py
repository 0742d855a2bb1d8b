"""The mind of a fleet, pure: who sends what, when, and why not yet."""
