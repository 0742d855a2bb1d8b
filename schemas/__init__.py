"""The language: facts, topics and wire shapes. Imports nothing else of ours."""
