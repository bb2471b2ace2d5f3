"""`flask events …`: a module for each of its commands, and what they share: events as lines, pages of events.

`app.cli.backup` restores parts of a moment by the same options and pages. Nothing else imports this folder:
`app.cli.command_table` names each command, which is imported once it is called.
"""
