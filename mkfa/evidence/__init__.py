"""What the paper printed, as data, to stand beside what runs here gave."""
