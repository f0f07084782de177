"""The studio: photos, training, samples and images in a browser, over the same functions as the command line."""
