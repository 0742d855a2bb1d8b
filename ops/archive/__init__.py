"""The archive: what Kafka holds, kept in an object store, and Kafka filled from it again."""
