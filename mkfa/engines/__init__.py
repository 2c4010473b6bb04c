"""How runs are executed: in this process or several, on a Ray cluster, through the queue of Slurm. An engine trains
runs and reports how they end (`mkfa.engines.engine`); `mkfa.engines.sweep` decides which run is next and what becomes
of those that fail, whatever the engine."""
