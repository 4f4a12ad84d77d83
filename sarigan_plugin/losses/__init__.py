"""The objective of Eq. 7, and that of inpainting."""
