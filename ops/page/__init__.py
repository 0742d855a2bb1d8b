"""The operator's page: what stands in Postgres, for a browser or a phone; it can change nothing."""
