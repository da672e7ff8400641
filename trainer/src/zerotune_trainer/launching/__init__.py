"""What a node's launcher is made of: it imports once, forks the ranks, hears them, and says why they ended."""
