"""The workshop: commands, demo, embedded servers."""
