"""Messages to people: their texts, where they go, the channels, and the outcome of each."""
