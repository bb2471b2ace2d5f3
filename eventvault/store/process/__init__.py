"""The store process from outside: starting it, noticing that it died or hangs, and owning the database."""
