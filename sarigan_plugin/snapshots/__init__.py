"""Files of networks: reading and writing them without running what is inside."""
