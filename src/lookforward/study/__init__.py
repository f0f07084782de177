"""A blind study: people compare the images of two methods without knowing which is which (the paper's Table 3)."""
