"""Each stage one file: decode -> core -> encode."""
