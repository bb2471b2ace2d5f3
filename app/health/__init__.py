"""`/api/health`: the state of the service, for people and for probes. It answers even if the store does not."""
