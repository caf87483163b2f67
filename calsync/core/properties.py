"""The names that calsync writes into iCalendar: its PRODID, and the properties that carry plain tokens.

A plain token has only characters that need no escaping, so that no calendar server rewrites it.
"""

PRODID = "-//calsync//calsync//EN"
RECORD = "X-CALSYNC-RECORD"
"""On the master of a week: the whole reservation, as base64url of JSON."""
MARK = "X-CALSYNC-MARK"
"""On the master of a week: the token that names one write."""
SLOT = "X-CALSYNC-SLOT"
"""On each component of a week that is a slot: the slot's id."""
DELIVERY = "X-CALSYNC-DELIVERY"
"""On the master of a week, once for each message about it: base64url of JSON."""
AWAY = "X-CALSYNC-AWAY"
"""On an absence: whose it is, as base64url of JSON."""
