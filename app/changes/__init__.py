"""`/api/changes`: a stream that tells pages what changed, so that they ask again only for what they show."""
