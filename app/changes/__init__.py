"""`/api/changes`: a stream that tells the dashboard what has changed and must be loaded again."""
