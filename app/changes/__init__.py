"""`/api/changes`: a stream that tells pages what has changed, so that they ask for it again."""
