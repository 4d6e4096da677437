"""Numbers from images and features; knows no model and no folder."""
