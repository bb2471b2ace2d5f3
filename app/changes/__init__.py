"""`/api/changes`: a stream that tells pages what has changed. A page then asks again for what it shows."""
