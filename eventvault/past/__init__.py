"""Reading the past without restoring it: a moment, what two of them differ in, a part of one.

Nothing here changes what is there, but for a part that is taken into the present, which is appended as anything else
is. It imports neither Flask nor `app`; which databases of the past are open is known by `eventvault.past.pool`.
"""
