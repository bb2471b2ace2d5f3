"""`/api/kafka`: what has to be decided about the events topic by somebody. Asks the store, never a broker."""
