"""What timm knows of a network: its depthwise layers, their order, stride and dilation."""
