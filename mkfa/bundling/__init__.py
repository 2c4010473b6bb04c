"""Scripts that make mkfa's bundled data: banks, image sets, the record of timm's networks."""
