"""The command line: one thin file a command, loaded when that command runs."""
