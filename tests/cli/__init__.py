"""The command line, in this process with a stand-in for the model, and in processes of its own."""
