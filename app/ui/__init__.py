"""The dashboard at `/`: its files, as the browser gets them. There is no build step."""
