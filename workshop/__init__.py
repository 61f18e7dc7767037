"""What a teacher needs to run the series in a room: pages, a bundle, a hub, safe copies."""
