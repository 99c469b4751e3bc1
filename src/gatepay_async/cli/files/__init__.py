"""Reads and writes files of card keys in several formats."""
