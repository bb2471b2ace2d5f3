"""`/api/settings`: the settings in force. Read-only: they come from the environment."""
