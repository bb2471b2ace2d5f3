"""`flask backup …`: a module for each of its longer commands, and one for several that belong together.

A command asks the ports of the store and prints. No other folder imports this one: `app.cli.command_table` names each
command, which is imported once it is called. What several groups need lies one folder above.
"""
