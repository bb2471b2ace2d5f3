"""`/api/changes`: a stream that tells each page which parts of it are out of date."""
