"""The command line: one file a command, each of them arguments, one call, and what it prints."""
