"""An agency's own MTA: Postfix, its DKIM and logins (README.md), and the reader of its log."""
