"""Readers of files that hold a graph: ONNX and TFLite."""
