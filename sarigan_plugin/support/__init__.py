"""Files, pictures, streams and processes."""
