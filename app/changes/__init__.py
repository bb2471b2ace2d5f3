"""`/api/changes`: a stream of what changed. A page then asks again for what it shows, and for nothing else."""
