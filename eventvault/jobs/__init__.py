"""Jobs: work that runs outside the store and survives anything. Only the dispatcher writes the states of jobs."""
