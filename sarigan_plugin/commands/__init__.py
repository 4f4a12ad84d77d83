"""One file for each `sarigan` command: its options, one call, and what it tells."""
