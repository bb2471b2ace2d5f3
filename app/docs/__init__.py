"""`/docs`: the API documentation for people, rendered from `/openapi.json`. It works offline.

`static/rapidoc-min.js` is RapiDoc 9.3.8 (https://rapidocweb.com) as published, with its licence beside it.
"""
