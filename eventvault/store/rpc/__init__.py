"""Remote calls over a Unix socket: frames, the server in the store process, the client in all others."""
