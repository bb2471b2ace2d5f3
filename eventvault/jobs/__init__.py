"""Jobs: work that runs outside the store and survives anything. The dispatcher alone writes what becomes of a job."""
