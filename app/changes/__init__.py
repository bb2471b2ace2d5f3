"""`/api/changes`: a stream for pages. It says what has changed, so that a page asks for that again."""
