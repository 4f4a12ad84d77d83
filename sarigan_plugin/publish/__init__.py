"""Networks for others: as ONNX, and as a page of static files that a browser runs by itself."""
