"""`flask operations …`: long work, whoever began it, and its ids as people type them."""
