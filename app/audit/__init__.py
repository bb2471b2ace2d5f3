"""`/api/audit`: who did what, and with what result. It reads the lines; nothing over HTTP changes one."""
