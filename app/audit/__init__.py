"""`/api/audit`: who did what, and with what result. A client can read the lines, and cannot change them."""
