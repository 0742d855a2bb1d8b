"""The life of a send, pure: no clock, no random, no I/O."""
