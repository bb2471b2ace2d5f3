"""The dispatcher process, `python -m app.dispatcher`: owns `jobs_db` and answers at `jobs.sock`.

The store starts it. It runs no handlers of jobs, opens no event database, serves no HTTP, and imports nothing else from
`app`.
"""

import sys

COMMAND = (sys.executable, "-m", "app.dispatcher")
