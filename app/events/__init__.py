"""`/api/events`: post, get, list and export. The core parses and checks bodies; events pass through as ready JSON."""
