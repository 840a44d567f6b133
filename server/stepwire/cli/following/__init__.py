"""Follow a run at the terminal.

`follower` shows the events and sees how the run ends, `view` knows the run's status and open questions, `answering`
answers them, and `answers` are those that were given on the command line.
"""
