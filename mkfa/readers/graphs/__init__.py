"""Readers of graph files: ONNX and TFLite."""
