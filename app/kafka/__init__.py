"""`/api/kafka`: an operator's decisions about the events topics. It asks the store, never a broker."""
