"""Identifiers that must not be mixed up."""

from typing import NewType

ClientId = NewType("ClientId", str)
CampaignId = NewType("CampaignId", str)
SendId = NewType("SendId", str)
"""Chosen by upstream, unique per client: 1-128 of [A-Za-z0-9_.:-]."""
Recipient = NewType("Recipient", str)
"""HMAC-SHA256 of the normalised address, 64 hex digits (design section 4)."""
MailboxAddress = NewType("MailboxAddress", str)
DomainName = NewType("DomainName", str)
RouteId = NewType("RouteId", str)
TopicId = NewType("TopicId", str)
