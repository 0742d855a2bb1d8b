"""The commands of `mailfleet`, by what they are about."""
