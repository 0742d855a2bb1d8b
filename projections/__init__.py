"""What people read: throw-away read models in Postgres."""
