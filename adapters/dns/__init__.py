"""The domain name system, and what stands around it: checks of a domain, each a function that returns a finding.

A check never says more than a server did: no answer (time-out, SERVFAIL, REFUSED) is `could_not_be_checked`.
"""
