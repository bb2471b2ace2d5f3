"""In-memory doubles of the ports, for tests of what stands above the store. They pass the same contract suite."""
