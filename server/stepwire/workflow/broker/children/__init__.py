"""The runs that the steps of a run have started."""
