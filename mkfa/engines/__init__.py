"""How runs are carried out: one after the other in this process, or several at once in processes of their own. An
engine trains what is ready and reports the outcome; it decides nothing about the experiment."""
