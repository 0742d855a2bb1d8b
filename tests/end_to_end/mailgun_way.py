"""A route over Mailgun's stand-in in a story's fleet file."""

DOMAIN = "mg.acme.test"
KEY = "key-of-the-stand-in"
WAY = f"""
[clients.acme.routes.mailgun]
provider = "mailgun"
options = {{ domain = "{DOMAIN}", base_url = "http://127.0.0.1:PORT", secret_ref = "file:mailgun.key" }}
max_connections = 5
pause_seconds = 4
"""


def with_mailgun(fleet: str, port: int, ways: str) -> str:
    """Return the fleet file with the route, and with `ways` as those of its mailboxes."""
    fleet = fleet.replace('route = "own"', ways)
    return fleet.replace("[[clients.acme.mailboxes]]", WAY.replace("PORT", str(port)) + "[[clients.acme.mailboxes]]")
