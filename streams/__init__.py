"""The log, the minds and the hands."""
