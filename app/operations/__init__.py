"""`/api/operations`: long work is listed, watched and cancelled, and begun without waiting for its end."""
