"""Notifications: tells the people in NOTIFY_URLS of problems and restores, and a dead man's switch of each backup.

Apprise is imported in a child process only. Nothing here raises into a backup, a restore or a request, or lets one
wait. It imports neither the parts that it reports on nor the store.
"""
