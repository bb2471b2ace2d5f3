"""`/api/session`: a browser exchanges a token for a session, or signs out."""
