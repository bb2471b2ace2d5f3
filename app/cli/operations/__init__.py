"""`flask operations …`: long work, whoever began it; the ids as people type them."""
