"""One run, from its specification to its result: the recipe, the device, the steps, the folder that makes it
resumable."""
