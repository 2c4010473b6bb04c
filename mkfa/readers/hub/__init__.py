"""Read the depthwise tensors of a repository on the model hub without downloading the whole file."""
