"""`/api/kafka`: decisions about the events topics that an operator must make. It asks the store, never a broker."""
