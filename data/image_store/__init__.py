"""Where decoded images come from: the files, memory, disk or the device."""
