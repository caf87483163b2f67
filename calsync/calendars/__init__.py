"""Where the Deployments calendar is stored: SQLite, PostgreSQL or a CalDAV server, behind one protocol in `base`."""
