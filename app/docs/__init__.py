"""`/docs/`: the documents and the API reference for people. Both work offline.

`static/rapidoc-min.js` is RapiDoc 9.3.8 (https://rapidocweb.com) as published, with its licence beside it.
"""
