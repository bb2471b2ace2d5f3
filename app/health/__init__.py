"""`/api/health`: how the service is, for people and for machines. Asks the store, and answers when it does not."""
