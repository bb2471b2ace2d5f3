"""`/api/audit`: who did what and what came of it. Reads the lines; nothing over HTTP changes one."""
