"""One file, one optimization. The folder is its family, the file name its name."""
