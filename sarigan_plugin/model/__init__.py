"""The networks. Pickles hold the source of networks, grouping, discriminator and inpainting, which import nothing of
the plugin; the other modules look at networks and train them."""
