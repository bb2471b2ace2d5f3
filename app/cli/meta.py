"""Names in the meta of click's context: what was given for any command, before or behind its name."""

JSON, UTC = "eventvault.json", "eventvault.utc"
"""Whether `--json` and `--utc` were given before the command."""
URL, INSECURE, CA_FILE = "eventvault.url", "eventvault.insecure", "eventvault.ca_file"
"""What was given with `--url`, `--insecure` and `--ca-file`."""
