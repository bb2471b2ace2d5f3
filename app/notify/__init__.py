"""`/api/notify`: tests whether a message reaches the people in NOTIFY_URLS."""
