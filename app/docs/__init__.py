"""`/docs`: the API, for people, out of `/openapi.json`. Works offline: what the page needs lies in `static/`.

`static/rapidoc-min.js` is RapiDoc 9.3.8 (https://rapidocweb.com) as published, with its licence beside it.
"""
