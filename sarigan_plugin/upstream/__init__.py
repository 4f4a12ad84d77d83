"""StyleGAN2-ADA's tree: finding, assembling and patching it, and having its code run here."""
