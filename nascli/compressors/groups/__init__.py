"""What of a network lives and dies as one: found, proven to be removable, taken out."""
