"""What travels between the notification server and its clients."""
