"""One file for each group of commands. Each is imported only when it is asked for."""
