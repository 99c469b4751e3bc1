"""Files of card keys, by format: how they are read, and how they are written."""
