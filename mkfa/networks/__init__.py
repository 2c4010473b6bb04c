"""Networks for small images (`build.build_network`), and which of their layers have spatial filters, in order of
execution (`layers.spatial_layers`)."""
