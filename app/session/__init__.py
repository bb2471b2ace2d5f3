"""`/api/session`: a browser signs in with a token and gets a session in its place, or signs out."""
