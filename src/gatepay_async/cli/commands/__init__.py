"""The implementation of each command, in a module that is imported when the command is called."""
