"""Events: the CloudEvents envelope, its schema, and the cursors of a list. Knows nothing of where events are stored."""
