"""`/api/problems`: an operator accepts a problem that health names until somebody decides."""
