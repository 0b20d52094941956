class Problem(Exception):
    """Bad input. Its text is one line that names the value and the cure; the program ends with exit code 2."""
