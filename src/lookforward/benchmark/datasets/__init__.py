"""The data sets that a benchmark can be run on."""
