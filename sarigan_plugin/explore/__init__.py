"""The page of `sarigan explore`: its sessions, its studio, what is drawn in the browser."""
