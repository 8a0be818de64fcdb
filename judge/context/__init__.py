"""Making a conversation fit a context: what to keep, and what to say is missing."""
