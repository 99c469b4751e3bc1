"""Where card keys lie until they are sent, and how they get there."""
