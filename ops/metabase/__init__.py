"""Metabase: dashboards as files, and what puts them into a Metabase over its HTTP API."""
