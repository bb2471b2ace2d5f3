"""`/api/kafka`: decisions about the events topic that an operator must make. It asks the store, never a broker."""
