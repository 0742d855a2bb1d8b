"""What another policy would have done with the recorded past: the fleet's mind over its own journal, once more."""
