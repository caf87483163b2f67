"""The names that calsync writes into iCalendar: its PRODID, and its own properties.

The values of these properties are plain tokens: they need no escaping, so no calendar server rewrites them.
"""

PRODID = "-//calsync//calsync//EN"
RECORD = "X-CALSYNC-RECORD"
"""On the master of a week: the whole reservation, as base64url of JSON."""
MARK = "X-CALSYNC-MARK"
"""On the master of a week: the random token that identifies one write."""
SLOT = "X-CALSYNC-SLOT"
"""On each component of a week that is a slot: the slot's id."""
DELIVERY = "X-CALSYNC-DELIVERY"
"""On the master of a week, once for each message about the week: the delivery, as base64url of JSON."""
AWAY = "X-CALSYNC-AWAY"
"""On an absence: its record, as base64url of JSON."""
