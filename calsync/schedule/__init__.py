"""Answer questions about the calendar: what is on it, what conflicts, who is away, who is next. It writes nothing."""
