"""Every write to the Deployments calendar: weeks, hand-offs, absences, and the rotation's coming weeks."""
