"""The same numbers, sooner: kernels, formats and orders of memory."""
