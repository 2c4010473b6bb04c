"""Networks for small images (`build.build_network`), and their layers with spatial filters in order of execution
(`layers.spatial_layers`)."""
