"""The doors: one file = one outside system; imports schemas only."""
