"""Methods compared on the world's held-out subjects: the commands `compare`, `ablate` and `demo`."""
