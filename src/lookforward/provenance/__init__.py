"""Where an image comes from: said in its metadata and by an invisible watermark, and read back."""
