"""What `flask doctor` looks at: the state of an installation, gathered whether the service runs or not.

It changes nothing in the three folders, takes no lock, starts no store and waits for nothing longer than a deadline.
`gather` returns plain facts (`facts`); what they mean is said by `app.cli`. Nothing else of the core imports it.
"""
