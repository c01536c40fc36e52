"""The reproduction: everything about the installed papers that can be checked on this machine."""
