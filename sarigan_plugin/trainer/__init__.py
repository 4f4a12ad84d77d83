"""Around upstream's training loop: options, processes, states to go on from, progress."""
