"""Files in and out: bytes to rows to battles, and what is written whole or not at all."""
