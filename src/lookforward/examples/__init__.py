"""Small functions to learn from, and to begin your own with."""
