"""`/api/changes`: a stream that says what changed, for a page that then asks for what it shows."""
