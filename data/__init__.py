"""Find, check, decode, augment and batch the images of a data set."""
