"""Every question about the Deployments calendar. Nothing here writes to it."""
