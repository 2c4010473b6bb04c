"""Networks for small images, and which of their layers hold spatial filters."""
