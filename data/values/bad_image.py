"""The error of a file that cannot be used as an image."""

from common.errors import UserError


class BadImage(UserError):
    """A file that cannot be used as an image; the message names the file and the reason."""
