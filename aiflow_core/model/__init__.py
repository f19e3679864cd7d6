"""What travels between processes and is stored: frozen values and one serializer."""
