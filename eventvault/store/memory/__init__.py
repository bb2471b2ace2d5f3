"""In-memory doubles of the store, for tests of the layers above it. They pass the same contract tests."""
