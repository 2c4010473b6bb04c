"""Who trains the runs of a plan: this process, or several processes at once. An engine is given what is ready to run
and reports what became of it; it decides nothing about the experiment."""
