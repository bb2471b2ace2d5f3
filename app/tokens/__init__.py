"""`/api/tokens`: who may use the service. It works whether a store answers or not."""
