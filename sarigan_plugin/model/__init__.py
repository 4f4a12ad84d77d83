"""All that is pickled. These modules import nothing of the plugin: network pickles hold their source."""
