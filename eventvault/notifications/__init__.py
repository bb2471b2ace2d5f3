"""Notifications: tells the addresses in NOTIFY_URLS of problems and restores, and PING_URL of each scheduled backup.

Only a child process imports Apprise. Nothing here makes a backup, a restore or a request fail or wait. This folder
imports neither the parts that it reports on nor the store.
"""
