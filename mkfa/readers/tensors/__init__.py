"""Readers of files of named tensors: safetensors, PyTorch and TorchScript, whole or in shards."""
