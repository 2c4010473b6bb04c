"""Read the depthwise tensors of a repository on the model hub, by ranges, without downloading the file."""
