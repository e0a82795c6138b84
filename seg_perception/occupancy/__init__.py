"""From label images to what is where on the ground, in metres."""
