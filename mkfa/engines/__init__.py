"""How runs are executed: one after the other in this process, or concurrently in separate processes. An engine trains
runs that are ready and reports the outcomes; it makes no decisions about the experiment."""
