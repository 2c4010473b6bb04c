"""How the data that come with mkfa were made: banks, image sets, the record of timm's networks. Run by hand (`python
-m mkfa.bundling.banks`), imported by nobody."""
