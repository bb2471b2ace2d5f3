"""`/api/events`: post, get, list, export. Bodies are parsed and checked by the core; events pass as ready JSON."""
