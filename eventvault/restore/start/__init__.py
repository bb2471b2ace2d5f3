"""What a start of the service does before it opens the database: finish a swap, restore, recover, import."""
