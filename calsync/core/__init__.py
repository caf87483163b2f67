"""Values and rules: weeks, windows, conductors, plans, reservations, settings. It knows no input or output."""
