"""The log: exactly-once decisions on an at-least-once engine (design section 2)."""
