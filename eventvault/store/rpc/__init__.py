"""The ports over a Unix socket: frames, the server inside the store process and the client in every other one."""
