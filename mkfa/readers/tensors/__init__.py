"""Readers of files that hold tensors by name: safetensors, PyTorch and TorchScript, whole or in shards."""
