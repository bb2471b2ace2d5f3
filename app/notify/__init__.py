"""`/api/notify`: tries whether the people in NOTIFY_URLS would hear of a problem."""
