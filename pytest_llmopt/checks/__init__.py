"""One file, one promise: a function from two sides to a verdict. The file name is the name of the check."""
