"""`/api/events`: post, get, list and export. The core parses and checks bodies; stored JSON is sent without parsing."""
