"""Keys in the meta of click's context, for options that come before or after the name of any command."""

JSON, UTC = "eventvault.json", "eventvault.utc"
"""Whether `--json` and `--utc` were given before the command."""
URL, INSECURE, CA_FILE = "eventvault.url", "eventvault.insecure", "eventvault.ca_file"
"""The values of `--url`, `--insecure` and `--ca-file`."""
